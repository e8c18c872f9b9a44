"""Load the views of parts for a teacher, in pieces, decoded ahead by processes beside a GPU."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Int64

from cache_teacher.config import CacheConfig
from cache_teacher.inputs import Inputs
from cache_teacher.pieces import PartPiece, split_part
from pld.images import Source
from pld.loading import LoadedViews, in_flight, loading, prefetch_shards
from pld.store import PartId

# Views that a worker process loads at once, 10 MB at 224 px.
_VIEWS_AT_ONCE = 64


@contextlib.contextmanager
def load_parts(
    parts: Sequence[PartId], inputs: Inputs, config: CacheConfig, wanted: Callable[[], bool] = lambda: True
) -> Iterator[Iterator[LoadedViews[PartPiece]]]:
    """A context manager that gives all pieces of the parts, in order, as long as they are `wanted`."""
    threads = config.threads or _share_of_cores()
    processes = decoding_processes(inputs.device, threads)
    blocks = [functools.partial(iter, list(block)) for _, block in itertools.groupby(parts, lambda part: part.block)]
    rows, plan = shard_rows(inputs.source), inputs.plan

    def rows_of(part: PartId) -> Int64[np.ndarray, "n"]:
        return np.arange(rows[part.shard].start, rows[part.shard].stop)

    # Parts come block by block, and those of a block have the same views; fetching is planned a block ahead.
    num_remembered = 2 * max((part.block.num_views for part in parts), default=1)
    partners = functools.lru_cache(num_remembered)(plan.partners) if plan else None

    def rows_to_read(part: PartId) -> Int64[np.ndarray, "n"]:
        own = rows_of(part)
        if partners is None or inputs.policy.partners == "shard":
            return own
        return np.unique(np.concatenate([own, *(partners(view)[own] for view in part.views)]))

    local_parts = prefetch_shards(inputs.source, blocks, rows_to_read, in_flight=in_flight(processes))
    size, piece_size = config.batch_size, _VIEWS_AT_ONCE if processes else config.batch_size
    pieces = (
        piece
        for part in local_parts
        for piece in split_part(
            rows_of(part), part.views, batch_size=size, piece_size=piece_size, plan=plan, partners=partners
        )
    )
    chosen = itertools.takewhile(lambda piece: wanted(), pieces)
    with (
        contextlib.closing(local_parts),
        loading(inputs.decoder(config), chosen, processes=processes, threads=threads, option="--threads") as views,
    ):
        yield views


def shard_rows(source: Source) -> dict[str, range]:
    """The rows of each shard, by its name."""
    ends = np.cumsum(source.shard_sizes).tolist()
    return {shard.name: range(end - shard.num_samples, end) for shard, end in zip(source.shards, ends, strict=True)}


def decoding_processes(device: str, num: int) -> int:
    """Worker processes that decode ahead; none for a teacher on the CPU, which needs the same cores."""
    return 0 if device == "cpu" else num


def _share_of_cores() -> int:
    """The cores per process of this machine, which the processes launched on it share evenly."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
