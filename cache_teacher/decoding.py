"""Chunks of a part's images with all their views: by threads, or ahead of need by processes."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor

from cache_teacher.cutting import GpuCutter, PartRows, ViewCutter
from pld.buffer_pool import Recycler
from pld.loading.worker_processes import at_work_of, in_flight, in_processes, naming_the_dead
from pld.prefetch import in_order

# Views that a process is asked for at once, 10 MB at 224 px: beside these the asking costs nothing, and each process
# has two such pieces of shared memory.
_VIEWS_AT_ONCE = 64


@dataclasses.dataclass(frozen=True)
class Chunk:
    """As many of a part's rows as go through the teacher at once, and of each whether it could be decoded."""

    wanted: PartRows
    is_last: bool
    images: UInt8[Tensor, "n V 3 h w"]
    good: list[bool]


@runtime_checkable
class Decoder(Protocol):
    """Where chunks come from."""

    @property
    def parts_in_flight(self) -> int:
        """When a part is asked for, all up to so many before it have been decoded."""

    def chunks(self, parts: Iterable[PartRows]) -> Generator[Chunk, None, None]:
        """The parts' chunks in turn.

        Raises:
            UndecodableImageError: an image cannot be decoded and is not to be skipped; the first such one is named.
            DataError: an image cannot be read.
        """


def decoding(device: str) -> Callable[..., contextlib.AbstractContextManager[Decoder]]:
    """How images are decoded for a teacher on a device: `by_threads` or `by_processes`."""
    return by_threads if device == "cpu" else by_processes


@contextlib.contextmanager
def by_threads(cutter: ViewCutter, *, batch_size: int, num: int) -> Iterator[Decoder]:
    """A decoder of `num` threads and chunks of `batch_size` views, at work only while a chunk is waited for.

    For a teacher on the CPU, which needs the same cores: in turn both are as fast, and do not wait for each other.
    """
    with ThreadPoolExecutor(num, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield _Threads(cutter, batch_size, num, pool)


@contextlib.contextmanager
def by_processes(cutter: ViewCutter | GpuCutter, *, batch_size: int, num: int) -> Iterator[Decoder]:
    """A decoder of `num` processes, which go on while a teacher on a device of its own is at work; see `by_threads`.

    Raises:
        DataError: a process died while the context lasted; names the samples that all of them were at.
    """
    at_work = at_work_of(num)
    with naming_the_dead(cutter.source, at_work, "--threads"):
        yield _Processes(cutter, batch_size, num, at_work)


@dataclasses.dataclass(frozen=True)
class _Threads:
    cutter: ViewCutter
    batch_size: int
    num: int
    pool: ThreadPoolExecutor
    recycler: Recycler = dataclasses.field(default_factory=Recycler)

    @property
    def parts_in_flight(self) -> int:
        return 1

    def chunks(self, parts: Iterable[PartRows]) -> Generator[Chunk, None, None]:
        for wanted, is_last in _chunks(parts, self.batch_size):
            memory = self.recycler.empty((self.cutter.num_bytes(wanted),), torch.uint8)
            shares = wanted.pieces(-(-len(wanted.rows) // self.num))
            places = memory.split([self.cutter.num_bytes(share) for share in shares])  # type: ignore[no-untyped-call]
            good = in_order(self.pool, self._fill, zip(shares, places, strict=True), ahead=self.num)
            yield Chunk(wanted, is_last, self.cutter.images(wanted, memory), list(itertools.chain.from_iterable(good)))

    def _fill(self, share: tuple[PartRows, Tensor]) -> list[bool]:
        return self.cutter.fill(*share, lambda row: None)


@dataclasses.dataclass(frozen=True)
class _Processes:
    cutter: ViewCutter | GpuCutter
    batch_size: int
    num: int
    at_work: Tensor

    @property
    def parts_in_flight(self) -> int:
        return in_flight(self.num)

    def chunks(self, parts: Iterable[PartRows]) -> Generator[Chunk, None, None]:
        begun: deque[tuple[PartRows, bool]] = deque()
        height, width = self.cutter.preprocessing.input_size
        pieces = in_processes(
            self.cutter,
            self._pieces(parts, begun),
            workers=self.num,
            block_bytes=_VIEWS_AT_ONCE * height * width * 3,
            held=1,
            at_work=self.at_work,
        )
        with contextlib.closing(pieces), ThreadPoolExecutor(1, "copier") as pool:
            for chunk in in_order(pool, self._copied, self._placed(pieces, begun), ahead=1):
                if chunk:
                    yield chunk

    def _pieces(self, parts: Iterable[PartRows], begun: deque[tuple[PartRows, bool]]) -> Iterator[PartRows]:
        """What the processes are asked for; the chunks that it is of are added to `begun`."""
        for chunk in _chunks(parts, self.batch_size):
            begun.append(chunk)
            wanted, _ = chunk
            yield from wanted.pieces(max(1, _VIEWS_AT_ONCE // len(wanted.view_indexes)))

    def _placed(
        self, pieces: Iterable[tuple[PartRows, Tensor, list[bool]]], begun: deque[tuple[PartRows, bool]]
    ) -> Iterator[tuple[Tensor, PartRows, Tensor, Chunk | None]]:
        """Each piece's place in its chunk, what it is of, its memory, and the chunk if it is the last one."""
        chunk: Chunk | None = None
        for piece, memory, good in pieces:
            if chunk is None:
                wanted, is_last = begun.popleft()
                chunk = Chunk(wanted, is_last, self.cutter.room(wanted), [])
            place = chunk.images[len(chunk.good) : len(chunk.good) + len(good)]
            chunk.good.extend(good)
            is_whole = len(chunk.good) == len(chunk.wanted.rows)
            yield place, piece, memory, chunk if is_whole else None
            chunk = None if is_whole else chunk

    def _copied(self, filled: tuple[Tensor, PartRows, Tensor, Chunk | None]) -> Chunk | None:
        place, piece, memory, chunk = filled
        place.copy_(self.cutter.images(piece, memory))
        return chunk


def _chunks(parts: Iterable[PartRows], batch_size: int) -> Iterator[tuple[PartRows, bool]]:
    """The parts in pieces of at most `batch_size` views (or one row), and whether each is its part's last."""
    for part in parts:
        pieces = part.pieces(max(1, batch_size // len(part.view_indexes)))
        for number, piece in enumerate(pieces, start=1):
            yield piece, number == len(pieces)
