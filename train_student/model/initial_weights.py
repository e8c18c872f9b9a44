"""A student's initial weights, matched to the model and to the classes of its data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from pld.classes.matching import Classes, drop_unlikely_names, match_classes, shorten_list
from pld.classes.names import infer_names
from pld.errors import ConfigError, DataError
from pld.teachers import tensors_digest
from pld.views.preprocessing import Preprocessing

_MAX_SHOWN = 3
# A count that batch norm keeps for itself, which old files lack.
_OPTIONAL = "num_batches_tracked"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class InitialWeights:
    """The weights of a model that was trained before.

    Attributes:
        where: their place, for messages.
        tensors: by name.
        class_names: of their classes; None if unknown.
        names_inferred: whether the names are inferred from the number of classes alone.
        preprocessing: what they were trained with; None for a file of weights, for which timm's configuration says it.
        folder: the model's folder, if they are in one.
        note: what was chosen from their file, if it holds more.
    """

    where: str
    tensors: Mapping[str, Tensor]
    class_names: tuple[str, ...] | None = None
    names_inferred: bool = False
    preprocessing: Preprocessing | None = None
    folder: str | None = None
    note: str | None = None

    @property
    def digest(self) -> str:
        """sha256 of the tensors, as a teacher's."""
        return tensors_digest(self.tensors)


def load_weights(model: nn.Module, weights: InitialWeights, classes: Classes) -> str | None:
    """Load weights into a model; its classifier keeps its own, fresh ones where the weights are of other classes.

    Classes are matched by name. Where names are unknown on one side and both sides have as many classes, they are taken
    to be the same in their order.

    Args:
        model: with as many classes as the data.
        weights: to load.
        classes: the data's.

    Returns:
        What became of the classifier, if it is not the weights' own as it is, or if that had to be assumed.

    Raises:
        ConfigError: the weights are of another model; names the first tensors that differ.
    """
    own = model.state_dict()
    tensors, heads = dict(weights.tensors), classifier_tensors(model, own)
    rows, note = _match_rows(weights, tensors, heads, classes)
    for name in [name for name in {**own, **tensors} if name.startswith(heads)]:
        if rows is None:
            tensors.pop(name, None)
            if name in own:
                tensors[name] = own[name]
        elif name in tensors:
            tensors[name] = tensors[name][list(rows)]
    differences = list(_differences(tensors, own))
    if differences:
        more = f"; ... ({len(differences)} in all)" if len(differences) > _MAX_SHOWN else ""
        folder = f", or --model local-dir:{weights.folder} --pretrained, which builds it" if weights.folder else ""
        raise ConfigError(
            f"{weights.where}: weights of another model than --model and --model_kwargs say: "
            f"{'; '.join(differences[:_MAX_SHOWN])}{more}. Give the --model and --model_kwargs of these weights{folder}"
        )
    model.load_state_dict(tensors, strict=False)
    return note


def classifier_tensors(model: Any, own: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The beginnings of the names of its classifiers' tensors, as timm names them; some models have two classifiers."""
    names = model.pretrained_cfg.get("classifier") or ()
    names = (names,) if isinstance(names, str) else names
    return tuple(f"{name}." for name in names if f"{name}.weight" in own)


def _match_rows(
    weights: InitialWeights, tensors: Mapping[str, Tensor], heads: tuple[str, ...], classes: Classes
) -> tuple[tuple[int, ...] | None, str | None]:
    """For each of the data's classes its row in the weights' classifiers, None for fresh ones; and a note."""
    fresh = "the student's classifier begins with fresh weights"
    counts = {next(iter(tensors[f"{head}weight"].shape), 0) if f"{head}weight" in tensors else 0 for head in heads}
    if counts != {classes.count}:
        found = " and ".join(map(str, sorted(counts))) or "no"
        return None, f"{weights.where}: has {found} classes, {classes.owner} has {classes.count}: {fresh}"
    names = weights.class_names
    if weights.names_inferred:
        names = drop_unlikely_names(infer_names(classes.count), classes)
    try:
        match = match_classes(classes, Classes(names=names, count=classes.count, owner=weights.where))
    except DataError:
        others = shorten_list([name for name in names or () if name not in {*(classes.names or ())}])
        return None, f"{weights.where}: has other classes than {classes.owner}, such as {others}: {fresh}"
    if match.numbers != tuple(range(classes.count)):
        return match.numbers, f"{weights.where}: its classifier is put in the order of the classes of {classes.owner}"
    if names is None and classes.names is None:
        return match.numbers, (
            f"{weights.where} and {classes.owner} state no class names: their {classes.count} classes are taken to be "
            "the same in their order"
        )
    return match.numbers, match.note


def _differences(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Iterator[str]:
    """How two models' tensors differ, one line each."""
    for name, tensor in wanted.items():
        if name not in found:
            if not name.endswith(_OPTIONAL):
                yield f"{name} is missing"
        elif found[name].shape != tensor.shape:
            yield f"{name} is {list(found[name].shape)}, wanted {list(tensor.shape)}"
    yield from (f"{name} is none of the model's" for name in found if name not in wanted)
