"""From any dataset to tar shards: read once, unit by unit, and shuffled, so that any few shards hold every class."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pld.classes.matching import shorten_list
from pld.errors import ConfigError, OutputError, UndecodableImageError
from pld.files import fsync, writing
from pld.images.reader import ImageReader
from pld.images.shards.describe import UNFINISHED, describe_shards
from pld.images.shards.encoding import Encoding
from pld.images.shards.finished import check_finished
from pld.images.shards.growing_tars import GrowingTars
from pld.images.shards.plan import ShardPlan, plan_shards
from pld.images.shards.progress import Progress, only_writer, read_progress, save_progress
from pld.images.shards.tar_bytes import Block, archive_end, sample_blocks
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
    power cut, the same call goes on and comes to the same bytes. Memory holds an index and what the reader does.

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
    record = staging / f"{split}.json"
    with only_writer(staging / f"{split}.lock"):
        held = _shards_of(split, out)
        if set(held) - set(plan.names) or (held and not record.exists() and held != sorted(plan.names)):
            raise OutputError(f"{out}: has {len(held)} shards of {split} already; remove them, or name another folder")
        if held and not record.exists():
            describe_shards(reader, out, split, encoding)
            check_finished(reader, plan, out, same_bytes=encoding is None)
            on_images(len(reader.keys))
        else:
            describe_shards(reader, out, split, encoding)
            progress = read_progress(record, plan.digest, len(plan.names))
            if held:  # it was stopped while the complete shards were moved
                _check_moved(held, progress, len(reader.keys), staging, out)
            on_images(progress.done)
            if not held:
                progress = _write(reader, plan, progress, staging, on_images, encoding, on_broken)
            with writing(out):
                _publish(plan, progress, staging, out)
                record.unlink()
    return [out / name for name in plan.names]


def _shards_of(split: str, folder: Path) -> list[str]:
    """The names of a split's tars; `birds-b-0000.tar` is none of the split `birds`."""
    return sorted(path.name for path in folder.glob("*.tar") if shard_group(path.stem) == split)


def _check_moved(held: list[str], progress: Progress, num: int, staging: Path, out: Path) -> None:
    """Raise OutputError where shards are in `out` that a stopped call has not moved there."""
    if progress.done == num and not any((staging / name).exists() for name in held):
        return
    raise OutputError(
        f"{out}: has {shorten_list(held)}, but {progress.done:,} of {num:,} samples are written so far, and wait in "
        f"{staging}; remove these shards to go on, or name another folder"
    )


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
) -> Progress:
    """Append what the progress does not count yet, keep its record, and return the whole."""
    rows, done, record = plan.rows.tolist(), progress.done, staging / f"{plan.split}.json"
    with writing(record):
        save_progress(record, progress)
        for name in set(_shards_of(plan.split, staging)) - set(plan.names):  # of a plan that was given up
            (staging / name).unlink()
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
        return tars.progress


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


def _publish(plan: ShardPlan, progress: Progress, staging: Path, out: Path) -> None:
    """Move the complete shards that are not there yet; raises OutputError if one is gone, or not complete."""
    places = [staging / name if (staging / name).exists() else out / name for name in plan.names]
    for path, size in zip(places, progress.sizes, strict=True):
        wanted = size + len(archive_end(size))
        if not path.exists() or path.stat().st_size != wanted:
            found = f"has {path.stat().st_size:,} bytes" if path.exists() else "is gone"
            raise OutputError(
                f"{path}: {found}, wanted {wanted:,}; remove the shards of {plan.split} in {out} and "
                f"{staging / f'{plan.split}.json'} to begin anew"
            )
    for path in places:
        path.replace(out / path.name)
    fsync(out)
