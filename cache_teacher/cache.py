"""Stage one: open the dataset, build the teacher, run it over the missing parts, and seal the store."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from cache_teacher.config import CacheConfig
from cache_teacher.dry_run import dry_run
from cache_teacher.forward import PartSignals
from cache_teacher.inputs import Inputs, open_inputs, warn
from cache_teacher.label_check import hold_until_passed
from cache_teacher.load_parts import load_parts, shard_rows
from pld.config import parse_config
from pld.errors import DataError
from pld.images import Source
from pld.join.pixel_probes import compare_probes, make_probes
from pld.logs import Setup, set_up_logs
from pld.prefetch import map_ahead
from pld.progress import progress
from pld.provenance import provenance
from pld.report.table import as_text, over_error, store_rows
from pld.store import PartId, Store, StoreWriter, open_store

_LOG = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> None:
    """The command."""
    description = (CacheConfig.__doc__ or "").split("\n")[0]
    config = parse_config(CacheConfig, argv, prog="cache-teacher", description=description)
    set_up_logs(Setup(level=config.log_level, file=config.log_file))
    (dry_run if config.dry_run else cache)(config)


def cache(config: CacheConfig) -> None:
    """Cache the views of `config.views` that the store does not hold yet; see CacheConfig.

    Several processes, launched by torchrun, accelerate or hand, share the parts; the one that completes the store
    prints the summary.

    Raises:
        PLDError: something that the user can fix; parts committed before it are kept.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    inputs = open_inputs(config)
    if rank == 0:
        warn(*inputs.notes)
    writer = StoreWriter.open(
        config.store_path,
        inputs.identity(config),
        inputs.shards,
        provenance(),
        format=config.format,
    )
    _check_pixels(writer, inputs, config.store_path)
    parts = _assign_parts(writer.missing_parts(inputs.num_views), inputs.source, rank, world)
    _run_parts(parts, inputs, writer, config, show=rank == 0)
    sealed = writer.seal()
    if sealed or rank == 0:
        _print_summary(open_store(config.store_path), inputs.num_views)


def _check_pixels(writer: StoreWriter, inputs: Inputs, where: str) -> None:
    """Keep a few views in a new store; compare this machine's with those of an existing store."""
    writer.add_probes(make_probes(inputs.source, inputs.policy, inputs.gpu, inputs.plan))
    warn(compare_probes(open_store(where).probes, inputs.source, inputs.policy, where, inputs.gpu, inputs.plan))


def _assign_parts(missing: Sequence[PartId], source: Source, rank: int, world: int) -> list[PartId]:
    """This process's share of the missing parts.

    Parts are dealt by their shard's position in the dataset: processes that list the missing parts at different times
    get different lists.
    """
    position = {shard.name: i for i, shard in enumerate(source.shards)}
    parts = [part for part in missing if position[part.shard] % world == rank]
    if world > 1:
        _LOG.info("process %d of %d: %d parts to cache", rank, world, len(parts))
    return parts


def _run_parts(
    parts: Sequence[PartId],
    inputs: Inputs,
    writer: StoreWriter,
    config: CacheConfig,
    *,
    show: bool,
) -> None:
    """Decode the parts' views, run the teacher on them, and write each part while the next one is computed."""
    source, runner = inputs.source, inputs.runner(config)

    def write(result: tuple[PartId, PartSignals]) -> None:
        part, signals = result
        if not signals.rows:
            raise DataError(f"{source.location}: shard {part.shard}: none of its images can be decoded")
        labels = None if source.labels is None else source.labels[signals.rows]
        keys, mass = source.keys[signals.rows], signals.unmapped_mass
        writer.write_part(part, keys, labels, signals.views, signals.skipped, unmapped_mass=mass)

    rows = shard_rows(source)
    num_views = sum(len(rows[part.shard]) * part.block.num_views for part in parts)
    with (
        load_parts(parts, inputs, config) as views,
        progress(num_views, f"caching {config.store_path}", "view", show=show) as bar,
        ThreadPoolExecutor(1, "writer") as pool,
    ):
        results = runner.run(views, bar.update)
        if runner.label_check:
            results = hold_until_passed(results, runner.label_check)
        for _ in map_ahead(pool, write, zip(parts, results, strict=True), ahead=1):
            pass


def _print_summary(store: Store, wanted_views: int) -> None:
    if store.num_views < wanted_views:
        text = "%s: %d of %d views are complete; other processes are still working"
        _LOG.info(text, store.url, store.num_views, wanted_views)
    else:
        print(as_text(("complete", store.url), store_rows(store)))
        warn(over_error(store))
