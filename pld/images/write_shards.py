"""From any source to tar shards: shuffled once, so that a window of a few shards holds every class."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from pld.errors import ConfigError, OutputError
from pld.files import write_atomically, writing
from pld.images.sources.description import DATASET_FILE
from pld.images.sources.source import Source
from pld.images.sources.splits import shard_group, split_of
from pld.images.sources.tar_index import NO_LABEL, read_tar
from pld.images.sources.tar_members import add_member, check_keys, image_extension
from pld.prefetch import IO_THREADS
from pld.randomness import permutation
from pld.views import policy_to_json

_UNFINISHED = "unfinished"


def write_shards(
    source: Source, out: Path, split: str, shard_samples: int, on_images: Callable[[int], object]
) -> list[Path]:
    """Write `out/SPLIT-0000.tar`, ... (KEY.jpg or another extension with the bytes as they are, KEY.cls), dataset.json.

    The order is a permutation that depends on the split's name and size alone. Shards wait in `out/unfinished` until
    all are there, so a split appears whole or not at all; after a crash the same call writes the ones still missing.

    Args:
        source: the samples; keys, labels, class names and view policy stay as they are.
        out: a folder, made where there is none; other splits may be in it.
        split: what the shards are named after.
        shard_samples: samples in a shard, at least 1; the last one has the rest.
        on_images: told how many images are done, from several threads.

    Raises:
        DataError: an image cannot be read, or a key has a dot, where webdataset would cut it.
        OutputError: `out` has other shards of this split or another label space, or cannot be written.
        ConfigError: shard_samples is below 1.
    """
    if shard_samples < 1:
        raise ConfigError(f"shard_samples = {shard_samples}, wanted at least 1")
    check_keys(source)
    shards = _plan(len(source), split, shard_samples)
    finished = sorted(path.name for path in out.glob(f"{split}-*.tar"))
    if finished and finished != list(shards):
        raise OutputError(f"{out}: has {len(finished)} shards of {split} already; remove them, or name another folder")
    _check_alias(out, split)
    _describe(source, out)
    staging = out if finished else out / _UNFINISHED
    with writing(staging):
        staging.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(IO_THREADS) as pool:
        writes = [pool.submit(_write, source, rows, staging / name, on_images) for name, rows in shards.items()]
        try:
            for write in writes:
                write.result()
        finally:
            pool.shutdown(cancel_futures=True)
    with writing(out):
        for name in shards:
            (staging / name).replace(out / name)
        if staging != out and not any(staging.iterdir()):
            staging.rmdir()
    return [out / name for name in shards]


def _check_alias(out: Path, split: str) -> None:
    """Raise OutputError where the split is there under another word for it: readers could not tell which is meant."""
    groups = {shard_group(path.stem) for path in out.glob("*.tar")}
    others = [group for group in groups if group != split and split_of(split) and split_of(group) == split_of(split)]
    if others:
        raise OutputError(f"{out}: has the split {split!r} as {others[0]!r} already; write it as --split {others[0]}")


def _plan(num_samples: int, split: str, shard_samples: int) -> dict[str, Int64[ndarray, "n"]]:
    """The shards' names, each with its rows."""
    order = permutation(num_samples, f"shards/{split}")
    runs = np.split(order, range(shard_samples, num_samples, shard_samples))
    digits = max(4, len(str(len(runs) - 1)))
    return {f"{split}-{number:0{digits}d}.tar": rows for number, rows in enumerate(runs)}


def _write(source: Source, rows: Int64[ndarray, "n"], path: Path, on_images: Callable[[int], object]) -> None:
    """Write one tar; one that is there already is checked instead."""
    if path.exists():
        index = read_tar(path).rows
        labels = np.full(len(rows), NO_LABEL) if source.labels is None else source.labels[rows]
        same = np.array_equal(index["path"], source.keys[rows])
        same &= np.array_equal(index["label"], labels)
        if not same or index["size"].tolist() != [source.num_bytes(row) for row in rows.tolist()]:
            raise OutputError(
                f"{path}: holds other samples than those to write, or other bytes; remove it, or name another folder"
            )
        on_images(len(rows))
        return
    with writing(path), write_atomically(path, unique=False) as temporary, tarfile.open(temporary, "w") as tar:
        for row in rows.tolist():
            content = source.read(row)
            add_member(tar, f"{source.key(row)}.{image_extension(content)}", content)
            if source.labels is not None:
                add_member(tar, f"{source.key(row)}.cls", str(int(source.labels[row])).encode())
            on_images(1)


def _describe(source: Source, out: Path) -> None:
    """Write dataset.json, or find that the folder's names the same classes; nothing where classes have no names."""
    if source.class_names is None:
        return
    path, names = out / DATASET_FILE, list(source.class_names)
    described = {"class_names": names, "view_policy": policy_to_json(source.policy)}
    with writing(path):
        out.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    if json.loads(path.read_text(encoding="utf-8")).get("class_names") != names:
        raise OutputError(f"{path}: names other classes than {source.location}; name another folder")
