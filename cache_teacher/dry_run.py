"""`--dry-run`: what is to be cached, how large the store will be, and how long it takes, from a measured minute."""

from __future__ import annotations

import dataclasses
import math
import os
import resource
import time
from collections.abc import Iterator, Sequence

import torch

from cache_teacher.config import CacheConfig
from cache_teacher.inputs import Inputs, open_inputs, warn
from cache_teacher.load_parts import load_parts, shard_rows
from pld.join.pixel_probes import compare_probes
from pld.progress import progress
from pld.report.quantities import bytes_per_view, bytes_text, duration_text, peak_bytes, peak_gpu_bytes
from pld.report.table import as_text
from pld.store import Manifest, PartId, Store, find_manifest, open_store
from pld.store.format.blocks import plan_blocks
from pld.store.write.writer import DEFAULT_BLOCK_VIEWS

MEASURED_SECONDS = 60.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Speed:
    """What was measured.

    Attributes:
        num_views: views that were decoded and run through the teacher in `seconds`.
        seconds: the time that they took.
        num_warm: views before them, in the first batch, when everything starts; 0 if there was no other batch.
    """

    num_views: int
    seconds: float
    num_warm: int


def dry_run(config: CacheConfig) -> None:
    """Open data and teacher, cache nothing for a minute, and print a plan; writes nothing.

    Raises:
        PLDError: something that would stop the command as well.
    """
    if os.environ.get("RANK", "0") != "0":
        return
    inputs = open_inputs(config)
    warn(*inputs.notes)
    manifest = Manifest(
        identity=inputs.identity(config), provenance={}, shards=tuple(inputs.shards), format=config.format
    )
    store = _open_held(config, inputs, manifest)
    planned, missing = plan_parts(manifest, store, inputs.num_views)
    rows = list(_plan_rows(inputs, manifest, store, planned, missing))
    print(f"{config.store_path}: a dry run, which writes nothing")
    print(as_text(("teacher", manifest.identity.teacher.full_name), rows), flush=True)
    if missing:
        speed = _measure(config, inputs, missing)
        print(as_text(("measured", _speed_text(speed)), list(_need_rows(inputs, manifest, missing, speed))))


def plan_parts(manifest: Manifest, store: Store | None, num_views: int) -> tuple[int, list[PartId]]:
    """How many parts the wanted views have, and those that the store does not hold, in the order to write them."""
    held = store.layout.blocks if store else ()
    blocks = [block for block in plan_blocks(held, num_views, DEFAULT_BLOCK_VIEWS) if block.first < num_views]
    committed = store.layout.committed if store else frozenset()
    parts = [part for block in blocks for part in manifest.parts(block)]
    return len(parts), [part for part in parts if part not in committed]


def _open_held(config: CacheConfig, inputs: Inputs, wanted: Manifest) -> Store | None:
    """The store to go on in, if there is one; raises as the command would where it is another one."""
    held = find_manifest(config.store_path)
    if held is None:
        return None
    held.check_same(wanted, config.store_path)
    store = open_store(config.store_path)
    warn(compare_probes(store.probes, inputs.source, inputs.policy, config.store_path, inputs.gpu, inputs.plan))
    return store


def _plan_rows(
    inputs: Inputs, manifest: Manifest, store: Store | None, planned: int, missing: Sequence[PartId]
) -> Iterator[tuple[str, str]]:
    codec, source = manifest.identity.codec, inputs.source
    yield "images", f"{len(source):,} in {len(source.shards):,} shards, {source.location}"
    drawn = f" and {codec.tail_samples} of the tail" if codec.tail_samples else ""
    error = f", as many as an error of {codec.error:g} asks for" if codec.error is not None else ""
    classes = f"top {codec.k} of {inputs.teacher.num_outputs} classes"
    yield "views", f"{inputs.num_views} of each image, {classes}{error}{drawn}"
    held = "a new store" if store is None else f"the store holds {planned - len(missing):,}"
    yield "parts", f"{len(missing):,} of {planned:,} are missing: {held}"
    if store and store.layout.committed:
        about, each, how = "about", store.num_bytes / max(1, store.stats.num_rows), "as its parts so far take"
    else:
        about, each = "at most" if error else "about", bytes_per_view(codec.k, codec.tail_samples)
        how = f"as k = {codec.k}{drawn} takes on ImageNet; other images and teachers differ"
    total = inputs.num_views * len(source)
    yield "finished size", f"{about} {bytes_text(total * each)}: {total:,} views x {each:.4g} bytes, {how}"


def _measure(config: CacheConfig, inputs: Inputs, parts: Sequence[PartId]) -> Speed:
    """Decode views of the missing parts and run the teacher on them for a minute; raises what stops the command."""
    start = time.monotonic()
    stamps: list[tuple[float, int]] = []
    runner, end = inputs.runner(config), math.inf

    def is_wanted() -> bool:
        return time.monotonic() < end

    with (
        load_parts(parts, inputs, config, is_wanted) as pieces,
        progress(0, "measuring", "view") as bar,
    ):

        def on_done(num_views: int) -> None:
            nonlocal end
            if inputs.device.startswith("cuda"):
                torch.cuda.synchronize(inputs.device)
            stamps.append((time.monotonic(), num_views))
            bar.update(num_views)
            if sum(num for _, num in stamps) <= config.batch_size or len(stamps) == 1:
                end = stamps[-1][0] + MEASURED_SECONDS  # the minute begins after the first batch

        for _ in runner.run(pieces, on_done):
            pass
    if runner.label_check:
        runner.label_check.conclude()
    return _speed(start, stamps, config.batch_size)


def _speed(start: float, stamps: Sequence[tuple[float, int]], batch_size: int) -> Speed:
    """The speed after the first batch, or with it if there was no other."""
    num = num_warm = 0
    for index, (_, views) in enumerate(stamps):
        num += views
        if num <= batch_size and index + 1 < len(stamps):
            start, num_warm = stamps[index][0], num
    return Speed(num_views=num - num_warm, seconds=stamps[-1][0] - start, num_warm=num_warm)


def _speed_text(speed: Speed) -> str:
    warm = f"after {speed.num_warm:,} to warm up" if speed.num_warm else "starting included: there was one batch"
    rate = speed.num_views / speed.seconds
    return f"{speed.num_views:,} views in {speed.seconds:.3g} seconds, {rate:,.4g} a second, {warm}"


def _need_rows(
    inputs: Inputs, manifest: Manifest, missing: Sequence[PartId], speed: Speed
) -> Iterator[tuple[str, str]]:
    rows = shard_rows(inputs.source)
    num_views = sum(len(rows[part.shard]) * part.block.num_views for part in missing)
    seconds = num_views * speed.seconds / speed.num_views
    yield (
        "time",
        f"about {duration_text(seconds)} for the {num_views:,} missing views in one process; several share them",
    )
    yield "memory", f"{bytes_text(peak_bytes())} at most in this process"
    if (children := peak_bytes(resource.RUSAGE_CHILDREN)) and (gpu := peak_gpu_bytes(torch.device(inputs.device))):
        yield "", f"{bytes_text(children)} at most in each decoding process, {bytes_text(gpu)} on the GPU"
    yield "not measured", "writing parts, which runs beside the teacher; shards that are fetched from a URL later"
