"""What a writer may put into a part: checked before anything is rounded, so that a store holds no nonsense."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Shaped

from pld.errors import DataError, SignalError
from pld.signals import TopK
from pld.store.identity import CodecIdentity
from pld.store.manifest import Shard
from pld.store.samples import key_array


def check_samples(
    shard: Shard,
    keys: Shaped[np.ndarray, "N"],
    labels: Int[np.ndarray, "M"],
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
    try:
        topk.validate(num_classes)
    except SignalError as error:
        raise SignalError(f"{where}: {error}") from None
