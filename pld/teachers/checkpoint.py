"""The sets of tensors in a file of weights, and which of them are a given model's."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pld.classes.matching import shorten_list
from pld.errors import TeacherError
from pld.teachers.weights_file import load_file

Tensors = Mapping[str, Tensor]

# Old files lack these; PyTorch fills them in.
_MAY_LACK = "num_batches_tracked"
# Words in the name of a moving average.
_AVERAGES = re.compile(r"(^|[^a-z])((ema|swa)([^a-z]|$)|averag)", re.IGNORECASE)
# What to do about weights of another model, by the option that named them.
_ADVICE = {
    "--weights": "Name the architecture that these are of with --teacher, or load them by a function of yours: "
    "--teacher python:MODULE:FUNCTION",
    "--init_from": "Give the --model and --model_kwargs of these weights",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a file of weights holds.

    Attributes:
        where: the file, for messages.
        sets: sets of tensors by the entry of the file that they are, one in another as `ema.module`; those that are
            not in an entry are "".
        others: the file's other entries.
        wanted: the entry, or the prefix in it, that the user chose; "" without a choice.
        option: that named the file, for messages.
    """

    where: str
    sets: Mapping[str, Tensors]
    others: tuple[str, ...] = ()
    wanted: str = ""
    option: str = "--weights"

    def describe(self) -> str:
        """Its entries, the number of tensors and the first names, for messages."""
        sets = [
            f"{len(tensors)} tensors{f' in {name!r}' if name else ''} ({shorten_list(list(tensors))})"
            for name, tensors in self.sets.items()
        ]
        others = f", besides {shorten_list(list(self.others))}" if self.others else ""
        return f"holds {' and '.join(sets) or 'no tensors'}{others}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitting:
    """The tensors of a file that are a model's, by the model's own names.

    Attributes:
        tensors: by name.
        note: what was chosen or left aside; None if the file holds these tensors alone.
    """

    tensors: Tensors
    note: str | None


def read_checkpoint(location: str, option: str = "--weights") -> Checkpoint:
    """Read a .safetensors file or a .pth of torch.save, told apart by their bytes.

    Args:
        location: the file, with `#ENTRY` behind it to choose one of several sets of tensors.
        option: that named it, for messages.

    Raises:
        TeacherError: it is no such file, is damaged, or holds more than tensors and plain values.
    """
    path, entry = _split_entry(location)
    loaded = load_file(path, option)
    if not isinstance(loaded, Mapping):
        raise TeacherError(f"{path}: holds a {type(loaded).__name__}, wanted tensors by name")
    sets = _find_sets(loaded)
    shown = {place.partition(".")[0] for place in sets}
    others = () if "" in sets else tuple(name for name in map(str, loaded) if name not in shown)
    return Checkpoint(where=str(path), sets=sets, others=others, wanted=entry, option=option)


def fit_tensors(checkpoint: Checkpoint, wanted: Tensors, model_name: str, optional: tuple[str, ...] = ()) -> Fitting:
    """Find a model's tensors in a file, under any prefix (`module.`, `_orig_mod.`, `model.`, ...) and in any entry.

    If a file holds weights and their moving average, the average is loaded, as timm does.

    Args:
        checkpoint: the file.
        wanted: the model's tensors by name; their values are not looked at.
        model_name: for messages.
        optional: what the names of tensors begin with that the file may lack.

    Raises:
        TeacherError: the file has not all of the model's names under one prefix, or has them several times, or not in
            the entry that was chosen.
    """
    found = {
        (entry, prefix): tensors
        for entry, held in checkpoint.sets.items()
        for prefix in _prefixes(held, wanted)
        if (tensors := _under(held, prefix, wanted, optional)) is not None
    }
    if not found:
        raise TeacherError(_misfit(checkpoint, wanted, model_name))
    (entry, prefix), others = _choose(checkpoint, list(found), model_name)
    _check_values(checkpoint.where, found[entry, prefix], wanted)
    note = None
    if others:
        note = (
            f"{checkpoint.where}: the moving average {_place((entry, prefix))!r} is loaded, not "
            f"{shorten_list(others)}; to load another, write {checkpoint.option} {checkpoint.where}#{others[0]}"
        )
    elif not checkpoint.wanted and (left := [name for name in checkpoint.sets[entry] if not name.startswith(prefix)]):
        note = (
            f"{checkpoint.where}: also holds tensors that are not the model's, which are not loaded: "
            f"{shorten_list(left)}"
        )
    return Fitting(tensors=found[entry, prefix], note=note)


def _split_entry(location: str) -> tuple[Path, str]:
    """The file, and the entry behind `#`, if no file is named so."""
    path, _, entry = location.rpartition("#")
    return (Path(path), entry) if path and not Path(location).exists() else (Path(location), "")


def _find_sets(loaded: Mapping[Any, Any]) -> dict[str, Tensors]:
    """The sets of tensors in a file, its own and those of its entries and of the entries in these."""
    places = {"": loaded}
    for name, value in loaded.items():
        if isinstance(value, Mapping):
            places[str(name)] = value
            places |= {f"{name}.{inner}": held for inner, held in value.items() if isinstance(held, Mapping)}
    return {place: tensors for place, value in places.items() if (tensors := _tensors(value))}


def _tensors(value: Any) -> Tensors:
    """A mapping's tensors by name, if nearly all that it holds are such; else nothing."""
    if not isinstance(value, Mapping):
        return {}
    tensors = {name: tensor for name, tensor in value.items() if isinstance(name, str) and isinstance(tensor, Tensor)}
    return tensors if 2 * len(tensors) > len(value) else {}


def _prefixes(held: Tensors, wanted: Tensors) -> list[str]:
    """What stands in `held` before the model's first name."""
    first = next((name for name in wanted if not name.endswith(_MAY_LACK)), "")
    return [name.removesuffix(first) for name in held if name == first or name.endswith(f".{first}")]


def _under(held: Tensors, prefix: str, wanted: Tensors, optional: tuple[str, ...]) -> Tensors | None:
    """The tensors behind a prefix, if their names are the model's."""
    tensors = {name.removeprefix(prefix): tensor for name, tensor in held.items() if name.startswith(prefix)}
    lacking = wanted.keys() - tensors.keys()
    fits = tensors.keys() <= wanted.keys() and all(
        name.endswith(_MAY_LACK) or name.startswith(optional) for name in lacking
    )
    return tensors if fits else None


def _check_values(where: str, tensors: Tensors, wanted: Tensors) -> None:
    """Raise TeacherError if a tensor's numbers cannot be the model's, or are not in the file."""
    for name, tensor in tensors.items():
        found, model_has = _kind(tensor), _kind(wanted[name])
        if found != model_has and (found, model_has) != ("floating-point", "integer"):
            raise TeacherError(
                f"{where}: {name} is {str(tensor.dtype).removeprefix('torch.')}, wanted {model_has} numbers: quantised "
                "or packed weights; name the floating-point weights that they were made of"
            )
        is_dense = tensor.layout == torch.strided and not tensor.is_meta
        if not is_dense or tensor.untyped_storage().nbytes() < tensor.numel() * tensor.itemsize:
            raise TeacherError(
                f"{where}: {name} is {list(tensor.shape)}, but the file does not hold as many numbers; save it with a "
                "number for each element (tensor.to_dense() or tensor.contiguous())"
            )


def _kind(tensor: Tensor) -> str:
    """What its numbers are; those of one byte are always a code for others."""
    if tensor.is_complex():
        return "complex"
    return "floating-point" if tensor.is_floating_point() and tensor.itemsize > 1 else "integer"


def _misfit(checkpoint: Checkpoint, wanted: Tensors, model_name: str) -> str:
    text = (
        f"{checkpoint.where}: weights of another model than {model_name}: it {checkpoint.describe()}; "
        f"{model_name} has {len(wanted)} ({shorten_list(list(wanted))})"
    )
    best = max(checkpoint.sets.values(), key=lambda held: len(held.keys() & wanted.keys()), default={})
    if common := best.keys() & wanted.keys():
        lacking = [name for name in wanted if name not in common]
        more = [name for name in best if name not in common]
        lacks, has = shorten_list(lacking) or "none", shorten_list(more) or "none"
        text += f". {len(common)} names are the same; it lacks {lacks} and has besides {has}"
    return f"{text}. {_ADVICE[checkpoint.option]}"


def _choose(
    checkpoint: Checkpoint, places: list[tuple[str, str]], model_name: str
) -> tuple[tuple[str, str], list[str]]:
    """The place to load, and if it is a moving average for no other reason, the places that are not loaded."""
    names = [_place(place) for place in places]
    if checkpoint.wanted:
        places = [place for place in places if checkpoint.wanted in (place[0], _place(place))]
    averages = [place for place in places if _AVERAGES.search(_place(place))]
    chosen = averages if averages and len(averages) < len(places) else places
    if not chosen:
        raise TeacherError(
            f"{checkpoint.where}: {model_name} is not in an entry {checkpoint.wanted!r}, but in {shorten_list(names)}"
        )
    if len(chosen) > 1:
        raise TeacherError(
            f"{checkpoint.where}: contains {len(chosen)} sets of weights for {model_name}: {shorten_list(names)}; "
            f"choose one, such as {checkpoint.option} {checkpoint.where}#{_place(chosen[0])}"
        )
    return chosen[0], [_place(place) for place in places if place != chosen[0]]


def _place(place: tuple[str, str]) -> str:
    """An entry and a prefix, as they are written behind `#`; "." for the file's own tensors without a prefix."""
    return ".".join(filter(None, (place[0], place[1].removesuffix(".")))) or "."
