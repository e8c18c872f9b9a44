"""Tars that grow sample by sample, all of them at once, in as many open files as the system allows."""

from __future__ import annotations

import os
import resource
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pld.errors import OutputError
from pld.files import writing
from pld.images.shards.progress import Progress
from pld.images.shards.tar_bytes import Block, archive_end
from pld.images.sources.splits import shard_group
from pld.prefetch import IO_THREADS

# Descriptors left for everything else.
_OTHER_FILES = 128
_LEAST_OPEN = 16


class GrowingTars:
    """Appends samples to shards and knows their sizes; use it as a context, which closes the files."""

    def __init__(self, paths: Sequence[Path], progress: Progress) -> None:
        """Cut the files to what the progress counts, and make those that are not there.

        Raises:
            OutputError: a file is shorter than that, or cannot be written.
        """
        self._paths = paths
        self._plan, self._sizes = progress.plan, list(progress.sizes)
        # What the last append came to, as one object: so an interrupt never finds a sample half counted.
        self._last = (progress.done, 0, self._sizes[0])
        self._max_open = _allow_open_files(len(paths))
        self._open: OrderedDict[int, int] = OrderedDict()
        self._changed: set[int] = set()
        for shard, size in enumerate(self._sizes):
            with writing(paths[shard]):
                _cut(paths[shard], size)

    def __enter__(self) -> GrowingTars:
        return self

    def __exit__(self, *raised: object) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    @property
    def progress(self) -> Progress:
        """What has been appended."""
        done, shard, size = self._last
        self._sizes[shard] = size
        return Progress(plan=self._plan, done=done, sizes=self._sizes.copy())

    def append(self, shard: int, blocks: Sequence[Block]) -> int:
        """Append a sample and return its size in bytes; raises OutputError."""
        done, last, size = self._last
        self._sizes[last] = size
        num = self._write(shard, blocks)
        self._last = (done + 1, shard, self._sizes[shard] + num)
        return num

    def finish(self) -> None:
        """Append the marks of the tars' ends; the progress does not count them."""
        for shard, size in enumerate(self.progress.sizes):
            self._write(shard, [archive_end(size)])

    def sync(self) -> None:
        """Make what was appended survive a power cut."""
        changed = sorted(self._changed)
        with ThreadPoolExecutor(IO_THREADS) as pool:  # a journal takes several at once
            for first in range(0, len(changed), self._max_open):
                some = changed[first : first + self._max_open]
                list(pool.map(os.fsync, [self._descriptor(shard) for shard in some]))
        self._changed.clear()

    def _write(self, shard: int, blocks: Sequence[Block]) -> int:
        path, num = self._paths[shard], sum(map(len, blocks))
        try:
            descriptor = self._descriptor(shard)
            self._changed.add(shard)
            written = os.writev(descriptor, blocks)
            while written < num:
                written += os.write(descriptor, b"".join(blocks)[written:])
        except OSError as error:
            with writing(path):
                raise error
        return num

    def _descriptor(self, shard: int) -> int:
        descriptor = self._open.get(shard)
        if descriptor is None:
            if len(self._open) >= self._max_open:
                os.close(self._open.popitem(last=False)[1])
            descriptor = os.open(self._paths[shard], os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            self._open[shard] = descriptor
        self._open.move_to_end(shard)
        return descriptor


def _cut(path: Path, size: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if (found := os.fstat(descriptor).st_size) < size:
            raise OutputError(
                f"{path}: has {found:,} of the {size:,} bytes that were written; remove "
                f"{path.with_name(f'{shard_group(path.stem)}.json')} to begin anew"
            )
        os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)


def _allow_open_files(num: int) -> int:
    """Raise the process's limit of open files as far as it may; how many of `num` can be open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = num + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return num if soft == resource.RLIM_INFINITY else max(_LEAST_OPEN, min(num, soft - _OTHER_FILES))
