"""Stage one: open the dataset, build the teacher, run it over the missing parts, and seal the store."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Int64

from cache_teacher.config import CacheConfig, choose_policy, limit_views
from cache_teacher.forward import PartRunner, PartSignals
from cache_teacher.identity import store_identity
from cache_teacher.label_check import LabelCheck, hold_until_passed
from cache_teacher.pieces import split_part
from pld.classes.names import read_class_map, read_class_names
from pld.config import parse_config
from pld.errors import ConfigError, DataError
from pld.images import Source, open_source
from pld.join.match import map_classes, use_store_keys, use_teacher_classes
from pld.join.mixing import plan_mixing
from pld.join.pixel_probes import compare_probes, make_probes
from pld.loading import ViewDecoder, in_flight, loading, prefetch_shards, view_decoder
from pld.loading.nvjpeg import check_device
from pld.prefetch import map_ahead
from pld.progress import progress
from pld.provenance import provenance
from pld.report.table import as_text, store_rows
from pld.store import (
    PartId,
    Shard,
    Store,
    StoreWriter,
    find_manifest,
    open_store,
)
from pld.teachers import Teacher, build_teacher
from pld.views import MixingPlan, Policy

_UNCHECKED = "images without labels: nothing checks that the teacher's classes and pixels are right for them"
# Views that a worker process loads at once, 10 MB at 224 px.
_VIEWS_AT_ONCE = 64


def main(argv: Sequence[str]) -> None:
    """The command."""
    cache(parse_config(CacheConfig, argv, prog="cache-teacher", description=(CacheConfig.__doc__ or "").split("\n")[0]))


def cache(config: CacheConfig) -> None:
    """Cache the views of `config.views` that the store does not hold yet; see CacheConfig.

    Several processes, launched by torchrun, accelerate or hand, share the parts; the one that completes the store
    prints the summary.

    Raises:
        PLDError: something that the user can fix; parts committed before it are kept.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    device = config.device or _default_device()
    class_names, class_map = read_class_names(config.class_names), read_class_map(config.class_map)
    source = open_source(config.data, config.split, class_names=class_names, unlabelled=config.unlabelled)
    source = use_store_keys(find_manifest(config.store_path), source)
    gpu = _decoding_gpu(config, device)
    teacher, source, class_note = _build_teacher(config, source, class_map, device)
    policy = choose_policy(config, source, teacher)
    plan = plan_mixing(source, policy)
    num_views, view_note = limit_views(policy, config.views)
    if rank == 0:
        unchecked = None if source.labels is not None else _UNCHECKED
        _warn(*source.remarks, *teacher.notes, class_note, view_note, unchecked)
    writer = StoreWriter.open(
        config.store_path,
        store_identity(config, source, teacher, policy),
        [Shard(name=shard.name, num_samples=shard.num_samples) for shard in source.shards],
        provenance(),
        format=config.format,
    )
    _check_pixels(writer, source, policy, config.store_path, gpu, plan)
    if config.compile:
        # A part's last batch is smaller: one set of kernels per batch size is faster than kernels for any size.
        teacher.model.compile(dynamic=False)
    decoder = view_decoder(
        source, policy, [teacher.preprocessing], gpu=gpu, skip_bad_images=config.on_bad_image == "skip"
    )
    runner = PartRunner(
        teacher=teacher,
        source=source,
        k=config.k,
        temperatures=config.temperatures,
        device=device,
        label_check=_label_check(config, source, teacher),
    )
    parts = _assign_parts(writer.missing_parts(num_views), source, rank, world)
    _run_parts(parts, runner, decoder, plan, writer, config, show=rank == 0)
    sealed = writer.seal()
    if sealed or rank == 0:
        _print_summary(open_store(config.store_path), num_views)


def _build_teacher(
    config: CacheConfig, source: Source, class_map: Mapping[str, str], device: str
) -> tuple[Teacher, Source, str | None]:
    """Build the teacher for the dataset's classes; the note says what had to be assumed about them.

    Images without labels have all classes of the teacher, unless some are named.
    """
    teacher = build_teacher(config.teacher, config.weights, precision=config.precision, device=device)
    note = None
    if source.labels is None and source.class_names is None:
        source = use_teacher_classes(teacher, source)
    else:
        teacher, note = map_classes(teacher, source.classes, class_map)
    if teacher.num_outputs < 2:
        raise DataError(
            f"{source.classes.describe()}: a ranking needs two classes or more; name another dataset with --data"
        )
    if config.k > teacher.num_outputs:
        raise ConfigError(
            f"--k {config.k}: {teacher.architecture} has {teacher.num_outputs} classes here; choose at most as many"
        )
    return teacher, source, note


def _decoding_gpu(config: CacheConfig, device: str) -> torch.device | None:
    """The GPU on which nvJPEG decodes, if any; raises ConfigError if it cannot."""
    if config.decoder == "cpu":
        return None
    gpu = torch.device(device)
    check_device(gpu)
    return gpu


def _check_pixels(
    writer: StoreWriter,
    source: Source,
    policy: Policy,
    where: str,
    gpu: torch.device | None,
    plan: MixingPlan | None,
) -> None:
    """Keep a few views in a new store; compare this machine's with those of an existing store."""
    writer.add_probes(make_probes(source, policy, gpu, plan))
    if warning := compare_probes(open_store(where).probes, source, policy, where, gpu, plan):
        _warn(warning)


def _warn(*notes: str | None) -> None:
    for note in filter(None, notes):
        print(f"warning: {note}", file=sys.stderr)


def _label_check(config: CacheConfig, source: Source, teacher: Teacher) -> LabelCheck | None:
    """The check of the labels; None if they may be wrong, or there are none."""
    if config.allow_wrong_labels or source.labels is None:
        return None
    names = source.class_names
    return LabelCheck(
        num_classes=teacher.num_outputs,
        class_name=lambda label: names[label] if names else str(label),
        advice="Give the names of the data's classes (--class_names FILE) and which of the teacher's classes each is "
        f"(--class_map FILE), and name another --store or remove {config.store_path}; or go on with "
        "--allow_wrong_labels",
        warn=_warn,
    )


def _assign_parts(missing: Sequence[PartId], source: Source, rank: int, world: int) -> list[PartId]:
    """This process's share of the missing parts.

    Parts are dealt by their shard's position in the dataset: processes that list the missing parts at different times
    get different lists.
    """
    position = {shard.name: i for i, shard in enumerate(source.shards)}
    parts = [part for part in missing if position[part.shard] % world == rank]
    if world > 1:
        print(f"process {rank} of {world}: {len(parts)} parts to cache", flush=True)
    return parts


def _run_parts(
    parts: Sequence[PartId],
    runner: PartRunner,
    decoder: ViewDecoder,
    plan: MixingPlan | None,
    writer: StoreWriter,
    config: CacheConfig,
    *,
    show: bool,
) -> None:
    """Decode the parts' views, run the teacher on them, and write each part while the next one is computed."""
    source = runner.source
    ends = np.cumsum(source.shard_sizes).tolist()
    rows = {shard.name: range(end - shard.num_samples, end) for shard, end in zip(source.shards, ends, strict=True)}

    def rows_of(part: PartId) -> Int64[np.ndarray, "n"]:
        return np.arange(rows[part.shard].start, rows[part.shard].stop)

    # Parts come block by block, and those of a block have the same views; fetching is planned a block ahead.
    partners = (
        functools.lru_cache(2 * max((part.block.num_views for part in parts), default=1))(plan.partners)
        if plan
        else None
    )

    def rows_to_read(part: PartId) -> Int64[np.ndarray, "n"]:
        own = rows_of(part)
        if partners is None or decoder.policy.partners == "shard":
            return own
        return np.unique(np.concatenate([own, *(partners(view)[own] for view in part.views)]))

    def write(result: tuple[PartId, PartSignals]) -> None:
        part, signals = result
        if not signals.rows:
            raise DataError(f"{source.location}: shard {part.shard}: none of its images can be decoded")
        labels = None if source.labels is None else source.labels[signals.rows]
        keys, mass = source.keys[signals.rows], signals.unmapped_mass
        writer.write_part(part, keys, labels, signals.views, signals.skipped, unmapped_mass=mass)

    threads = config.threads or _share_of_cores()
    processes = decoding_processes(runner.device, threads)
    blocks = [functools.partial(iter, list(block)) for _, block in itertools.groupby(parts, lambda part: part.block)]
    local_parts = prefetch_shards(source, blocks, rows_to_read, in_flight=in_flight(processes))
    size, piece_size = config.batch_size, _VIEWS_AT_ONCE if processes else config.batch_size
    pieces = (
        piece
        for part in local_parts
        for piece in split_part(
            rows_of(part), part.views, batch_size=size, piece_size=piece_size, plan=plan, partners=partners
        )
    )
    num_views = sum(len(rows[part.shard]) * part.block.num_views for part in parts)
    with (
        contextlib.closing(local_parts),
        loading(decoder, pieces, processes=processes, threads=threads, option="--threads") as views,
        progress(num_views, f"caching {config.store_path}", "view", show=show) as bar,
        ThreadPoolExecutor(1, "writer") as pool,
    ):
        results = runner.run(views, bar.update)
        if runner.label_check:
            results = hold_until_passed(results, runner.label_check)
        for _ in map_ahead(pool, write, zip(parts, results, strict=True), ahead=1):
            pass


def decoding_processes(device: str, num: int) -> int:
    """Worker processes that decode ahead; none for a teacher on the CPU, which needs the same cores."""
    return 0 if device == "cpu" else num


def _share_of_cores() -> int:
    """The cores per process of this machine, which the processes launched on it share evenly."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _print_summary(store: Store, wanted_views: int) -> None:
    if store.num_views < wanted_views:
        print(f"{store.url}: {store.num_views} of {wanted_views} views are complete; other processes are still working")
    else:
        print(as_text(("complete", store.url), store_rows(store)))


def _default_device() -> str:
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
