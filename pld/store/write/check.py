"""Check a part's content before it is quantised, so that a store holds only valid data."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Integer, Shaped

from pld.errors import DataError, SignalError
from pld.signals import TOLERANCE, TopK
from pld.store.documents.manifest import Manifest, Shard
from pld.store.format.blocks import PartId
from pld.store.format.identity import CodecIdentity
from pld.store.format.samples import key_array
from pld.store.format.schema import MAX_VIEW_BYTES


def check_part(
    manifest: Manifest,
    part_id: PartId,
    keys: Shaped[np.ndarray, "N"],
    labels: Int[np.ndarray, "M"] | None,
    views: Sequence[TopK],
    skipped: Sequence[str],
) -> None:
    """Raise DataError or SignalError unless the arguments are valid content for the part."""
    identity = manifest.identity
    num_classes = identity.teacher.num_classes
    shard = manifest.shards_by_name.get(part_id.shard)
    if shard is None:
        raise DataError(f"found {part_id}, wanted one of missing_parts()")
    if (labels is None) == manifest.is_labelled:
        found, wanted = ("none", "one for each key") if labels is None else ("some", "None")
        raise DataError(
            f"shard {shard.name}: labels: found {found}, wanted {wanted}: the identity's dataset has labelled = "
            f"{manifest.is_labelled}"
        )
    check_samples(shard, keys, labels, skipped, num_classes)
    if (size := manifest.view_bytes(part_id.block, len(keys), keys.dtype.itemsize)) > MAX_VIEW_BYTES:
        raise DataError(f"shard {shard.name}: {size} bytes a view, wanted at most {MAX_VIEW_BYTES}: use smaller shards")
    if len(views) != part_id.block.num_views:
        raise SignalError(f"{part_id.commit_name}: found {len(views)} views, wanted {part_id.block.num_views}")
    for view, topk in zip(part_id.views, views, strict=True):
        check_signal(topk, len(keys), labels, identity.codec, num_classes, f"shard {part_id.shard}, view {view}")


def check_samples(
    shard: Shard,
    keys: Shaped[np.ndarray, "N"],
    labels: Integer[np.ndarray, "M"] | None,
    skipped: Sequence[str],
    num_classes: int,
) -> None:
    """Raise DataError unless keys, labels (if there are any) and skipped keys can be all samples of the shard."""
    where = f"shard {shard.name}"
    if labels is not None and len(keys) != len(labels):
        raise DataError(f"{where}: found {len(keys)} keys and {len(labels)} labels, wanted as many")
    if len(keys) + len(skipped) != shard.num_samples:
        raise DataError(f"{where}: found {len(keys)} samples and {len(skipped)} skipped, wanted {shard.num_samples}")
    together = sorted([*keys.tolist(), *key_array(skipped).tolist()])
    twice = [key for key, after in itertools.pairwise(together) if key == after]
    if twice:
        raise DataError(f"{where}: the key {twice[0].decode()!r} comes twice; keys must be distinct")
    if labels is not None and len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise DataError(f"{where}: found labels {labels.min()}..{labels.max()}, wanted 0..{num_classes - 1}")


def check_signal(
    topk: TopK, num_rows: int, labels: Int[np.ndarray, "N"] | None, codec: CodecIdentity, num_classes: int, where: str
) -> None:
    """Raise SignalError unless a signal holds what the codec promises, of these samples, as probabilities at T = 1."""
    if not isinstance(topk, TopK):
        raise SignalError(
            f"{where}: found a {type(topk).__name__}, wanted a TopK; TopK.from_logits(logits, labels, k={codec.k}, "
            f"temperatures={codec.temperatures}) makes one of dense logits"
        )
    try:
        topk.check_shapes(num_classes)
    except SignalError as error:
        raise SignalError(f"{where}: {error}") from None
    found, wanted = (len(topk.classes), topk.k, topk.temperatures), (num_rows, codec.k, codec.temperatures)
    if found != wanted:
        raise SignalError(f"{where}: found (samples, k, temperatures) = {found}, wanted {wanted}")
    sample = topk.tail_sample
    drawn = None if sample is None else (sample.num, sample.temperature)
    wanted_drawn = (codec.tail_samples, codec.temperatures[-1]) if codec.tail_samples else None
    if drawn != wanted_drawn:
        raise SignalError(
            f"{where}: found a tail sample of (num, temperature) = {drawn}, wanted {wanted_drawn}; build the signal "
            f"with TopK.from_logits(..., tail_samples={codec.tail_samples})"
        )
    if (topk.counts is None) != (codec.error is None):
        found_how, wanted_how = ("counts", "none") if topk.counts is not None else ("no counts", "counts")
        raise SignalError(
            f"{where}: found {found_how}, wanted {wanted_how}: build the signal with TopK.from_logits(..., "
            f"error={codec.error}{'' if codec.error is None else f', logprob_error={codec.logprob_error}'})"
        )
    own, given = (None if values is None else values.tolist() for values in (topk.labels, labels))
    if own != given:
        raise SignalError(f"{where}: the signal was made for other labels than the part's")
    if fault := topk.fault(num_classes, TOLERANCE):
        raise SignalError(f"{where}: found {fault}; build the signal with TopK.from_logits")
