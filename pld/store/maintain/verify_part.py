"""One part against its commit: its bytes, then each array's, then what the numbers say."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Integer, Shaped

from pld.errors import CorruptStoreError, DataError, NotCachedError
from pld.signals import TOLERANCE, TopK
from pld.store.documents.commit import Commit
from pld.store.documents.manifest import Manifest
from pld.store.format.quantise import LABEL_AMONG_CLASSES, GridTopK, dequantise
from pld.store.format.samples import key_array, samples_digest
from pld.store.format.stats import PartStats
from pld.store.objects.storage import Storage
from pld.store.read.chunks import read_keys, read_labels, read_view
from pld.store.write.check import check_samples

_READ_BYTES = 2**24


def part_problems(storage: Storage, manifest: Manifest, commit: Commit) -> Iterator[str]:
    """What is wrong with a part; the arrays' faults before that of the whole file."""
    try:
        yield from _content_problems(storage, manifest, commit)
        # What no array holds, such as the zip's own headers, is in this digest alone.
        whole = _sha256(storage, commit)
    except (CorruptStoreError, NotCachedError) as error:
        yield str(error)
        return
    if whole != commit.part_sha256:
        yield f"found sha256 {whole} of the whole file, committed was {commit.part_sha256}"
    elif _is_longer(storage, commit):
        yield f"found more than the {commit.part_bytes} bytes that were committed"


def read_samples(
    storage: Storage, manifest: Manifest, commit: Commit
) -> tuple[Shaped[np.ndarray, "N"], Integer[np.ndarray, "N"] | None]:
    """A part's keys and labels, None without labels; raises CorruptStoreError unless they are what the commit says."""
    keys, labels = read_keys(storage, manifest, commit), read_labels(storage, manifest, commit)
    if (found := samples_digest(keys, labels)) != commit.samples_sha256:
        raise CorruptStoreError(f"its keys and labels have the digest {found}, committed was {commit.samples_sha256}")
    return keys, labels


def _content_problems(storage: Storage, manifest: Manifest, commit: Commit) -> Iterator[str]:
    identity = manifest.identity
    keys, labels = read_samples(storage, manifest, commit)
    shard = manifest.shards_by_name[commit.part_id.shard]
    try:
        check_samples(shard, key_array(keys), labels, commit.skipped, identity.teacher.num_classes)
    except DataError as error:
        yield str(error)
    views: list[TopK] = []
    for view in commit.part_id.views:
        try:
            grid = read_view(storage, manifest, commit, view)
        except CorruptStoreError as error:
            yield str(error)
            continue
        views.append(dequantise(grid, labels, identity.codec))
        if fault := _view_fault(manifest, grid, views[-1]):
            yield f"view {view}: found {fault}"
    unmapped = commit.stats.unmapped_mass
    num_classes = identity.teacher.num_classes
    if len(views) == len(commit.part_id.views) and not _same(
        found := PartStats.of(views, num_classes, unmapped, identity.codec.error), commit.stats
    ):
        yield f"its commit's stats are not those of its numbers: found {found}"
    class_map = identity.teacher.class_map
    leaves_out = class_map is not None and len(class_map.columns) < class_map.model_classes
    if not 0 <= unmapped <= commit.stats.num_rows or (unmapped and not leaves_out):
        yield (
            f"its commit gives {unmapped:.6g} as the mass on classes that the dataset does not have, summed over "
            f"{commit.stats.num_rows} rows"
        )


def _view_fault(manifest: Manifest, grid: GridTopK, topk: TopK) -> str | None:
    """What keeps a view from being a teacher's top-k, up to the grid's rounding."""
    identity = manifest.identity
    if topk.labels is not None:
        among = (topk.classes == topk.labels[:, None]).any(dim=1).numpy()
        if bool((among != (grid.label_depth == LABEL_AMONG_CLASSES)).any()):
            wrong = "that is masked where the label is outside the classes, or is not where it is among them"
            return f"a label_logprob {wrong}"
    return topk.fault(identity.teacher.num_classes, TOLERANCE + identity.codec.logprob_error)


def _same(found: PartStats, wanted: PartStats) -> bool:
    """Equal, up to another machine's last bits in a sum."""
    sums, wanted_sums = ((stats.tail_mass, *itertools.chain(*stats.tail_errors)) for stats in (found, wanted))
    close = len(sums) == len(wanted_sums) and all(map(functools.partial(math.isclose, rel_tol=1e-6), sums, wanted_sums))
    plain, wanted_plain = (dataclasses.replace(stats, tail_mass=0.0, tail_errors=()) for stats in (found, wanted))
    return close and plain == wanted_plain


def _sha256(storage: Storage, commit: Commit) -> str:
    digest = hashlib.sha256()
    for start in range(0, commit.part_bytes, _READ_BYTES):
        digest.update(storage.read_range(commit.part_name, start, min(_READ_BYTES, commit.part_bytes - start)))
    return digest.hexdigest()


def _is_longer(storage: Storage, commit: Commit) -> bool:
    try:
        storage.read_range(commit.part_name, max(0, commit.part_bytes - 1), 2)
    except CorruptStoreError:
        return False
    return True
