"""register_source: datasets that other packages read, and what a Source of theirs must keep."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pld.classes.names import check_names
from pld.errors import ConfigError, DataError, PLDError, PluginError, explain
from pld.images.sources.description import Description, GivenClasses, describe_tars
from pld.images.sources.folders import StatedClasses
from pld.images.sources.source import WHOLE_FILE, Source
from pld.plugins import Registry

Opener = TypeVar("Opener", bound=Callable[[str, str], Source])

_SOURCES: Registry[Callable[[str, str], Source]] = Registry("source")


def register_source(name: str) -> Callable[[Opener], Opener]:
    """Register a reader of datasets: `--data NAME:PLACE` calls it with the place and the split, in both stages.

    It returns a Source, or a subclass of it for images that do not lie in files as they are: that overrides `read`,
    `num_bytes` and `where`. Labels are numbers of its `class_names`; `labels` is None for images without. A subclass is
    sent to loader processes, so it opens what it reads from where it first reads.

    Args:
        name: a word of small letters, digits and `_`.

    Raises:
        PluginError: the name is taken; when it decorates the function.
    """

    def register(opener: Opener) -> Opener:
        _SOURCES.register(name, opener, opener)
        return opener

    return register


def open_registered(location: str, split: str, given: GivenClasses) -> Source | None:
    """Open NAME:PLACE with the reader that is registered under the name; None where the location is no such thing.

    Raises:
        DataError: the reader finds nothing to read, or the caller's class names contradict the source's.
        PluginError: the reader fails, or its Source breaks the contract; names the reader.
    """
    name, colon, place = location.partition(":")
    if not colon or place.startswith("//") or Path(location).exists() or not name.isidentifier():
        return None
    if name not in _SOURCES:
        return None
    where = f"{location} ({_SOURCES.owner(name)})"
    try:
        source = _SOURCES[name](place, split)
    except PLDError:
        raise
    except Exception as error:  # other people's code fails in its own ways
        raise PluginError(f"{where}: the reader fails: {explain(error)}") from error
    check_source(source, where)
    source = dataclasses.replace(source, location=location)
    if given.unlabelled:
        source = dataclasses.replace(source, labels=None)
    stated = StatedClasses(names=source.class_names, origin=location) if source.class_names else None
    return describe_tars(source, Description(classes=stated, policy=source.policy, encoding=source.encoding), given)


def registered_sources() -> tuple[str, ...]:
    """The names that `register_source` knows."""
    return tuple(_SOURCES)


def check_source(source: Any, where: str) -> None:
    """Check what everything that reads a Source relies on.

    Args:
        source: what a plug-in's reader returned.
        where: whose it is, for messages.

    Raises:
        PluginError: it breaks the contract; says where.
        DataError: it has no images.
    """
    if not isinstance(source, Source):
        raise PluginError(f"{where}: the reader returns a {type(source).__name__}, wanted a pld.images.Source")
    if "<locals>" in type(source).__qualname__:
        raise PluginError(f"{where}: its class is defined in a function, where loader processes cannot find it")
    num = len(source.keys)
    if not num:
        raise DataError(f"{where}: no images; name another place or --split")
    for fault in (*_array_faults(source, num), *_value_faults(source, num)):
        raise PluginError(f"{where}: {fault}")
    try:
        data, size = source.read(0), source.num_bytes(0)
    except Exception as error:  # likewise
        raise PluginError(f"{where}: its first image, {source.key(0)}, cannot be read: {explain(error)}") from error
    if not isinstance(data, bytes) or len(data) != size:
        found = f"{len(data)} bytes" if isinstance(data, bytes) else f"a {type(data).__name__}"
        raise PluginError(f"{where}: read(0) returns {found}, and num_bytes(0) is {size}; wanted as many bytes")


def _array_faults(source: Source, num: int) -> list[str]:
    """What is wrong with the arrays' types and lengths."""
    arrays: dict[str, Any] = {name: getattr(source, name) for name in ("file_index", "offsets", "sizes")}
    if source.labels is not None:
        arrays["labels"] = source.labels
    faults = [
        f"{name}: found {getattr(array, 'dtype', type(array).__name__)} of shape {list(np.shape(array))}, wanted int64 "
        f"of shape [{num}], as there are {num} keys"
        for name, array in arrays.items()
        if getattr(array, "dtype", None) != np.int64 or array.shape != (num,)
    ]
    if not isinstance(source.keys, np.ndarray) or source.keys.dtype.kind != "S" or source.keys.ndim != 1:
        faults.insert(0, "keys: wanted a NumPy array of UTF-8 bytes, such as np.array([b'ant/1', b'ant/2'])")
    return faults


def _value_faults(source: Source, num: int) -> list[str]:
    """What is wrong with the arrays' values, if their types are right."""
    if _array_faults(source, num):
        return []
    faults = []
    unique, first = np.unique(source.keys, return_index=True)
    if len(unique) < num:
        repeated = source.keys[int(np.setdiff1d(np.arange(num), first)[0])]
        faults.append(
            f"keys: {repeated.decode(errors='replace')!r} comes twice; wanted a name of its own for each image"
        )
    if sum(source.shard_sizes) != num:
        faults.append(f"shards: hold {sum(source.shard_sizes)} samples, and there are {num} keys")
    if not 0 <= source.file_index.min() <= source.file_index.max() < len(source.files):
        faults.append(f"file_index: wanted 0..{len(source.files) - 1}, the numbers of its files")
    if source.offsets.min() < 0 or source.sizes.min() < WHOLE_FILE:
        faults.append(f"offsets and sizes: wanted 0 or more bytes, or the size {WHOLE_FILE} for a whole file")
    if source.labels is not None:
        highest = len(source.class_names) - 1 if source.class_names else None
        low, high = int(source.labels.min()), int(source.labels.max())
        if low < 0 or (highest is not None and high > highest):
            faults.append(f"labels: found {low}..{high}, wanted 0..{'' if highest is None else highest}")
    if source.class_names:
        try:
            check_names(source.class_names, "class_names")
        except ConfigError as error:
            faults.append(str(error))
    return faults
