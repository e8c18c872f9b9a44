"""What a writer may put into a part: checked before anything is rounded, so that a store holds no nonsense."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer, Shaped
from torch import Tensor

from pld.errors import DataError, SignalError
from pld.signals import TopK
from pld.store.identity import CodecIdentity
from pld.store.manifest import Manifest, Shard
from pld.store.plan import PartId
from pld.store.samples import key_array
from pld.store.schema import MAX_VIEW_BYTES, view_bytes

# How far off a writer's log-probabilities may be, nats; float32's log-softmax over a million classes is well within.
TOLERANCE = 1e-3


def check_part(
    manifest: Manifest,
    part_id: PartId,
    keys: Shaped[np.ndarray, "N"],
    labels: Int[np.ndarray, "M"],
    views: Sequence[TopK],
    skipped: Sequence[str],
) -> None:
    """Raise DataError or SignalError unless all of this can be that part of that store."""
    identity = manifest.identity
    num_classes = identity.teacher.num_classes
    shard = next((shard for shard in manifest.shards if shard.name == part_id.shard), None)
    if shard is None:
        raise DataError(f"found {part_id}, wanted one of missing_parts()")
    check_samples(shard, keys, labels, skipped, num_classes)
    columns = manifest.part_format.columns(identity, part_id.block, len(keys), keys.dtype.itemsize)
    if (size := view_bytes(columns)) > MAX_VIEW_BYTES:
        raise DataError(f"shard {shard.name}: {size} bytes a view, wanted at most {MAX_VIEW_BYTES}: use smaller shards")
    if len(views) != part_id.block.num_views:
        raise SignalError(f"{part_id.commit_name}: found {len(views)} views, wanted {part_id.block.num_views}")
    for view, topk in zip(part_id.views, views, strict=True):
        check_signal(topk, labels, identity.codec, num_classes, f"shard {part_id.shard}, view {view}")


def check_samples(
    shard: Shard,
    keys: Shaped[np.ndarray, "N"],
    labels: Integer[np.ndarray, "M"],
    skipped: Sequence[str],
    num_classes: int,
) -> None:
    """Raise DataError unless keys, labels and skipped keys can be all samples of the shard."""
    where = f"shard {shard.name}"
    if len(keys) != len(labels):
        raise DataError(f"{where}: found {len(keys)} keys and {len(labels)} labels, wanted as many")
    if len(keys) + len(skipped) != shard.num_samples:
        raise DataError(f"{where}: found {len(keys)} samples and {len(skipped)} skipped, wanted {shard.num_samples}")
    together = sorted([*keys.tolist(), *key_array(skipped).tolist()])
    twice = [key for key, after in itertools.pairwise(together) if key == after]
    if twice:
        raise DataError(f"{where}: the key {twice[0].decode()!r} comes twice; keys must be distinct")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise DataError(f"{where}: found labels {labels.min()}..{labels.max()}, wanted 0..{num_classes - 1}")


def check_signal(topk: TopK, labels: Int[np.ndarray, "N"], codec: CodecIdentity, num_classes: int, where: str) -> None:
    """Raise SignalError unless a signal holds what the codec promises, of these samples, as probabilities at T = 1."""
    found, wanted = (len(topk.labels), topk.k, topk.temperatures), (len(labels), codec.k, codec.temperatures)
    if found != wanted:
        raise SignalError(f"{where}: found (samples, k, temperatures) = {found}, wanted {wanted}")
    if topk.labels.tolist() != labels.tolist():
        raise SignalError(f"{where}: the signal was made for other labels than the part's")
    if fault := signal_fault(topk, num_classes, TOLERANCE):
        raise SignalError(f"{where}: found {fault}; build the signal with TopK.from_logits")


def signal_fault(topk: TopK, num_classes: int, tolerance: float) -> str | None:
    """What keeps a signal from being probabilities at T = 1, and its first row; None where nothing does.

    Args:
        topk: the signal.
        num_classes: C.
        tolerance: by how much log-probabilities, and the logarithm of their sum, may be off, nats.
    """
    classes, logprobs = topk.classes, topk.logprobs
    ordered = classes.sort(dim=1).values
    outside = (classes != topk.labels[:, None]).all(dim=1)
    faults = {
        "classes outside 0..C-1": (classes < 0) | (classes >= num_classes),
        "a class twice in a row": ordered[:, 1:] == ordered[:, :-1],
        "log-probabilities that rise with the rank": logprobs[:, 1:] > logprobs[:, :-1],
        "log-probabilities that are not finite": ~torch.isfinite(logprobs)
        | ~torch.isfinite(topk.label_logprob)[:, None],
        "tails that are nan or +inf": ~(topk.tail_logmass < torch.inf),
        "tails of more mass than C classes can have": _excess(topk, num_classes) > tolerance,
        "a label whose log-probability is not that of its entry": _label_error(topk) > tolerance,
        "a label outside the top k that is more probable than its last class": outside
        & (topk.label_logprob > logprobs[:, -1] + tolerance),
        "probabilities that do not sum to 1": ~(_mass(topk, outside).log().abs() <= tolerance),
    }
    for fault, mask in faults.items():
        if bool(mask.any()):
            return f"{fault}, first in row {int(mask.reshape(len(mask), -1).any(dim=1).nonzero()[0])}"
    return None


def _excess(topk: TopK, num_classes: int) -> Float[Tensor, "B T"]:
    """By how much t * tail_logmass is above that of the uniform distribution, or of certainty below t = 1."""
    temperatures = torch.tensor(topk.temperatures, dtype=torch.float64)
    most = (temperatures - 1).clamp(min=0) * math.log(num_classes)
    return topk.tail_logmass.double() * temperatures - most


def _label_error(topk: TopK) -> Float[Tensor, "B k"]:
    """How far each entry that is the label is from label_logprob; 0 for the others."""
    error = (topk.logprobs - topk.label_logprob[:, None]).abs()
    return torch.where(topk.classes == topk.labels[:, None], error, 0.0)


def _mass(topk: TopK, outside: Bool[Tensor, "B"]) -> Float[Tensor, "B"]:
    """Top-k + label, where it is outside, + tail at T = 1."""
    label = torch.where(outside, topk.label_logprob.double().exp(), 0.0)
    return topk.logprobs.double().exp().sum(dim=1) + label + topk.tail_at(1.0).double().exp()
