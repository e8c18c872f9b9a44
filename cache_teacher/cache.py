"""Stage one, whole: check, plan, run what is missing, seal, sum up."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Int64

from cache_teacher.config import CacheConfig, choose_policy, limit_views
from cache_teacher.forward import PartRunner, PartSignals, split_part
from cache_teacher.label_check import LabelCheck, hold_until_passed
from pld.classes.names import read_class_map, read_class_names
from pld.config import parse_config
from pld.errors import ConfigError, DataError
from pld.images import Source, open_source
from pld.join.match import map_classes, use_store_keys
from pld.join.pixel_probes import compare_probes, make_probes
from pld.loading import ViewDecoder, in_flight, loading, prefetch_shards, view_decoder
from pld.loading.nvjpeg import check_device
from pld.prefetch import map_ahead
from pld.progress import progress
from pld.provenance import provenance
from pld.report.table import as_text, store_rows
from pld.store import (
    ClassMap,
    CodecIdentity,
    DatasetIdentity,
    Identity,
    PartId,
    Shard,
    Store,
    StoreWriter,
    TeacherIdentity,
    ViewIdentity,
    dataset_digest,
    find_manifest,
    open_store,
)
from pld.teachers import Teacher, build_teacher
from pld.views import DRAWING_VERSION, Policy, policy_to_json


def main(argv: Sequence[str]) -> None:
    """The command."""
    cache(parse_config(CacheConfig, argv, prog="cache-teacher", description=CacheConfig.__doc__ or ""))


def cache(config: CacheConfig) -> None:
    """Cache what the store does not hold yet of `config.views` views; see CacheConfig.

    Launched several times at once, by torchrun, accelerate or hand, the processes share the parts; the one that
    completes the store prints the summary.

    Raises:
        PLDError: something that the user can mend; parts committed before it are kept.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local_gpu = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    device = config.device or (local_gpu if torch.cuda.is_available() else "cpu")
    class_names = read_class_names(config.class_names)
    class_map = read_class_map(config.class_map)
    source = use_store_keys(
        find_manifest(config.store_path), open_source(config.data, config.split, class_names=class_names)
    )
    gpu = torch.device(device) if config.decoder == "nvjpeg" else None
    if gpu:
        check_device(gpu)
    teacher = build_teacher(config.teacher, config.weights, precision=config.precision, device=device)
    teacher, class_note = map_classes(teacher, source.classes, class_map)
    if teacher.num_outputs < 2:
        raise DataError(
            f"{source.classes.shown()}: a ranking needs two classes or more; name another dataset with --data"
        )
    if config.k > teacher.num_outputs:
        raise ConfigError(
            f"--k {config.k}: {teacher.architecture} has {teacher.num_outputs} classes here; choose k up to that"
        )
    policy = choose_policy(config, source, teacher)
    num_views, view_note = limit_views(policy, config.views)
    if rank == 0:
        _warn(*source.remarks, class_note, view_note)
    writer = StoreWriter.open(
        config.store_path,
        store_identity(config, source, teacher, policy),
        [Shard(name=shard.name, num_samples=shard.num_samples) for shard in source.shards],
        provenance(),
        format=config.format,
    )
    # Whoever begins a store keeps a few views in it; whoever goes on must see the same.
    writer.add_probes(make_probes(source, policy, gpu))
    _warn(compare_probes(open_store(config.store_path).probes, source, policy, config.store_path, gpu))
    if config.compile:
        # The last views of a part are fewer: kernels for each number are faster than kernels for any.
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
        label_check=None if config.allow_wrong_labels else _label_check(config, source, teacher),
    )
    _run_missing(runner, decoder, writer, config, num_views, rank, world)
    sealed = writer.seal()
    if sealed or rank == 0:
        _print_summary(open_store(config.store_path), num_views)


def store_identity(config: CacheConfig, source: Source, teacher: Teacher, policy: Policy) -> Identity:
    """What the store's numbers depend on."""
    described = policy_to_json(policy)
    return Identity(
        teacher=TeacherIdentity(
            name=teacher.architecture,
            tag=teacher.tag,
            weights_sha256=teacher.weights_sha256,
            num_classes=teacher.num_outputs,
            input_size=teacher.preprocessing.input_size,
            mean=teacher.preprocessing.mean,
            std=teacher.preprocessing.std,
            interpolation=teacher.preprocessing.interpolation,
            precision=teacher.precision,
            class_map=ClassMap(model_classes=teacher.num_classes, columns=teacher.columns) if teacher.columns else None,
        ),
        views=ViewIdentity(
            policy=described, seed=described.pop("seed"), drawing_version=DRAWING_VERSION, decoder=config.decoder
        ),
        dataset=DatasetIdentity(
            digest=dataset_digest(source.keys, source.labels),
            num_samples=len(source),
            class_names=source.class_names,
        ),
        codec=CodecIdentity(k=config.k, temperatures=config.temperatures),
    )


def _warn(*notes: str | None) -> None:
    for note in filter(None, notes):
        print(f"warning: {note}", file=sys.stderr)


def _label_check(config: CacheConfig, source: Source, teacher: Teacher) -> LabelCheck:
    names = source.class_names
    return LabelCheck(
        num_classes=teacher.num_outputs,
        class_name=lambda label: names[label] if names else str(label),
        advice="State the names of the data's classes (--class_names FILE) and which of the teacher's classes each is "
        f"(--class_map FILE), and name another --store or remove {config.store_path}; --allow_wrong_labels goes on",
        warn=_warn,
    )


def _run_missing(
    runner: PartRunner,
    decoder: ViewDecoder,
    writer: StoreWriter,
    config: CacheConfig,
    num_views: int,
    rank: int,
    world: int,
) -> None:
    source = runner.source
    starts = np.concatenate([[0], np.cumsum(source.shard_sizes)])
    # By the shard's place in the dataset: the processes' lists of what is missing may differ, taken at other times.
    place = {shard.name: i for i, shard in enumerate(source.shards)}

    def rows_of(part: PartId) -> Int64[np.ndarray, "n"]:
        return np.arange(starts[place[part.shard]], starts[place[part.shard] + 1])

    mine = [part for part in writer.missing_parts(num_views) if place[part.shard] % world == rank]
    if world > 1:
        print(f"process {rank} of {world}: {len(mine)} parts to cache", flush=True)
    total = sum(source.shards[place[part.shard]].num_samples * part.block.num_views for part in mine)
    blocks = [functools.partial(iter, list(parts)) for _, parts in itertools.groupby(mine, lambda part: part.block)]
    threads = config.threads or _share_of_cores()
    processes = decoding_processes(runner.device, threads)
    ahead = prefetch_shards(source, blocks, rows_of, in_flight=in_flight(processes))
    pieces = (piece for part in ahead for piece in split_part(rows_of(part), part.views, config.batch_size))
    with (
        contextlib.closing(ahead),
        loading(decoder, pieces, processes=processes, threads=threads, option="--threads") as views,
        progress(total, f"caching {config.store_path}", "view", show=rank == 0) as bar,
        ThreadPoolExecutor(1, "writer") as pool,
    ):

        def write(result: tuple[PartId, PartSignals]) -> None:
            part, signals = result
            if not signals.rows:
                raise DataError(f"{source.location}: shard {part.shard}: none of its images can be decoded")
            labels = source.labels[signals.rows]
            keys, mass = source.keys[signals.rows], signals.unmapped_mass
            writer.write_part(part, keys, labels, signals.views, signals.skipped, unmapped_mass=mass)

        # A part is written while the next one is computed.
        computed = runner.run(views, bar.update)
        results = hold_until_passed(computed, runner.label_check) if runner.label_check else computed
        for _ in map_ahead(pool, write, zip(mine, results, strict=True), ahead=1):
            pass


def decoding_processes(device: str, num: int) -> int:
    """Worker processes that decode ahead of need; none for a teacher on the CPU, which needs the same cores."""
    return 0 if device == "cpu" else num


def _share_of_cores() -> int:
    """What a process may use of the machine, beside the others that were launched with it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _print_summary(store: Store, wanted_views: int) -> None:
    if store.num_views < wanted_views:
        print(f"{store.url}: {store.num_views} of {wanted_views} views are complete; other processes are still at work")
    else:
        print(as_text(("complete", store.url), store_rows(store)))
