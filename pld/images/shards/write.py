"""From any dataset to tar shards: read once, unit by unit, and shuffled, so that any few shards hold every class."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pld.errors import ConfigError, OutputError, UndecodableImageError
from pld.files import fsync, writing
from pld.images.reader import ImageReader
from pld.images.shards.describe import UNFINISHED, describe_shards
from pld.images.shards.encoding import Encoding
from pld.images.shards.finished import check_finished
from pld.images.shards.growing_tars import GrowingTars
from pld.images.shards.plan import ShardPlan, plan_shards
from pld.images.shards.progress import Progress, only_writer, read_progress, save_progress
from pld.images.shards.tar_bytes import Block, sample_blocks
from pld.images.sources.splits import shard_group, split_of
from pld.images.sources.tar_members import check_keys
from pld.prefetch import map_ahead

# Bytes between two records of the progress, each of which waits for the disk: what a power cut or a kill can cost.
_SAVE_BYTES = 4 * 2**30


def write_shards(
    reader: ImageReader,
    out: Path,
    split: str,
    shard_samples: int,
    on_images: Callable[[int], object],
    *,
    encoding: Encoding | None = None,
    on_broken: Callable[[str], object] = lambda reason: None,
) -> list[Path]:
    """Write `out/SPLIT-0000.tar`, ... (KEY.jpg or another extension with the bytes as they are, KEY.cls), dataset.json.

    The order depends on the split's name and the sizes of the reader's units alone; `plan_shards` has it. Shards wait
    in `out/unfinished` until all are complete, so a split appears whole or not at all. After an error, a kill or a
    power cut, the same call goes on and comes to the same bytes. Memory holds an index and at most two units.

    Args:
        reader: the samples; keys, labels, class names and view policy stay as they are.
        out: a folder, made where there is none; other splits may be in it.
        split: what the shards are named after.
        shard_samples: samples in a shard, at least 1; the last one has the rest.
        on_images: told how many more images are done.
        encoding: how to re-encode images; None keeps their bytes.
        on_broken: told of each image that cannot be re-encoded and keeps its bytes.

    Raises:
        DataError: an image cannot be read, or a key has a dot, where webdataset would cut it.
        OutputError: `out` has other shards of this split, another label space or encoding, or shards of it that are
            unfinished or being written; or it cannot be written.
        ConfigError: shard_samples is below 1.
    """
    if shard_samples < 1:
        raise ConfigError(f"shard_samples = {shard_samples}, wanted at least 1")
    check_keys(reader)
    plan = plan_shards(reader, split, shard_samples, encoding.to_json() if encoding else None)
    _check_alias(out, split)
    staging = out / UNFINISHED
    with writing(staging):
        staging.mkdir(parents=True, exist_ok=True)
    lock, record = staging / f"{split}.lock", staging / f"{split}.json"
    with only_writer(lock):
        finished = sorted(path.name for path in out.glob(f"{split}-*.tar"))
        if finished and not record.exists():
            if finished != list(plan.names):
                raise OutputError(
                    f"{out}: has {len(finished)} shards of {split} already; remove them, or name another folder"
                )
            describe_shards(reader, out, split, encoding)
            check_finished(reader, plan, out, same_bytes=encoding is None)
            on_images(len(reader.keys))
        else:
            describe_shards(reader, out, split, encoding)
            progress = read_progress(record, plan.digest, len(plan.names))
            on_images(progress.done)
            if not finished:  # else it was stopped while the complete shards were moved
                _write(reader, plan, progress, staging, on_images, encoding, on_broken)
            with writing(out):
                _publish(plan, staging, out)
                record.unlink()
        with writing(out):
            lock.unlink()
            if not any(staging.iterdir()):
                staging.rmdir()
    return [out / name for name in plan.names]


def _check_alias(out: Path, split: str) -> None:
    """Raise OutputError where the split is there under another word for it: readers could not tell which is meant."""
    groups = {shard_group(path.stem) for path in out.glob("*.tar")}
    others = [group for group in groups if group != split and split_of(split) and split_of(group) == split_of(split)]
    if others:
        raise OutputError(f"{out}: has the split {split!r} as {others[0]!r} already; write it as --split {others[0]}")


def _write(
    reader: ImageReader,
    plan: ShardPlan,
    progress: Progress,
    staging: Path,
    on_images: Callable[[int], object],
    encoding: Encoding | None,
    on_broken: Callable[[str], object],
) -> None:
    """Append what the progress does not count yet, and keep its record."""
    rows, done, record = plan.rows.tolist(), progress.done, staging / f"{plan.split}.json"
    with writing(record):
        save_progress(record, progress)
    shards, keys = plan.shards[done:].tolist(), reader.keys
    labels = None if reader.labels is None else reader.labels.tolist()
    with GrowingTars([staging / name for name in plan.names], progress) as tars:
        contents = _contents(reader, plan, done, encoding, on_broken)
        unsaved = 0
        try:
            for shard, row, content in zip(shards, rows[done:], contents, strict=True):
                label = labels[row] if labels else None
                unsaved += tars.append(shard, sample_blocks(keys[row], content, label))
                on_images(1)
                if unsaved >= _SAVE_BYTES:
                    unsaved = 0
                    _save(tars, record)
        except BaseException:
            with contextlib.suppress(OutputError):  # such as a full disk, of which the error tells
                _save(tars, record)
            raise
        finally:
            contents.close()
        tars.finish()
        _save(tars, record)


def _save(tars: GrowingTars, record: Path) -> None:
    with writing(record):
        tars.sync()
        save_progress(record, tars.progress)


def _contents(
    reader: ImageReader,
    plan: ShardPlan,
    done: int,
    encoding: Encoding | None,
    on_broken: Callable[[str], object],
) -> Generator[Block, None, None]:
    """The bytes to write, in the plan's order."""
    contents = reader.read_units(plan.units_from(done))
    if encoding is None:
        yield from contents
        return

    def encode(sample: tuple[int, Block]) -> Block:
        row, content = sample
        try:
            return encoding.apply(bytes(content))
        except UndecodableImageError as error:
            on_broken(f"{reader.where(row)}: {error}; its bytes are kept")
            return content

    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads, "encode") as pool:  # decoding, resampling and encoding release the GIL
        yield from map_ahead(pool, encode, zip(plan.rows[done:].tolist(), contents, strict=True), ahead=2 * threads)


def _publish(plan: ShardPlan, staging: Path, out: Path) -> None:
    """Move the complete shards that are not there yet; raises OutputError if one is in neither place."""
    for name in plan.names:
        if (staging / name).exists():
            (staging / name).replace(out / name)
        elif not (out / name).exists():
            raise OutputError(f"{out / name}: is gone; remove the other shards of its split and {staging}")
    fsync(out)
