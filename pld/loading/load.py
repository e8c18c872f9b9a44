"""Load views in the order of their requests, decoded by threads or processes; both stages load their images here."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic

import torch
from jaxtyping import UInt8
from torch import Tensor

from pld.buffer_pool import BufferPool
from pld.errors import UndecodableImageError
from pld.loading.load_times import DECODING, LoadTimes, Stopwatch
from pld.loading.view_decoder import Map, ViewDecoder
from pld.loading.worker_processes import Request, explain_deaths, fill_in_processes, shared_rows
from pld.prefetch import map_ahead
from pld.views import Mixing, mix_steps

_Filled = tuple[Request, Tensor, list[Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedViews(Generic[Request]):
    """A request's views.

    Attributes:
        request: the request.
        images: uint8 [n, V, 3, h, w], channels last, one for each of the decoder's outputs; on the GPU if it decoded
            them, else in pinned memory if there is a GPU.
        good: which rows could be decoded; the other rows' images are undefined.
        mixing: how the [n, V] views were mixed: as requested, but unmixed where the other image cannot be decoded.
    """

    request: Request
    images: tuple[UInt8[Tensor, "n V 3 _ _"], ...]
    good: list[bool]
    mixing: Mixing | None = None


@contextlib.contextmanager
def loading(
    decoder: ViewDecoder,
    requests: Iterable[Request],
    *,
    processes: int = 0,
    threads: int = 1,
    held: int = 1,
    option: str = "--workers",
    context: str | None = None,
    times: LoadTimes | None = None,
) -> Iterator[Generator[LoadedViews[Request], None, None]]:
    """A context manager that gives the views of requests, in their order.

    Args:
        decoder: makes the views.
        requests: what to load. Memory is sized by the first request; larger ones take longer.
        processes: worker processes, which decode ahead. With 0 this process decodes each request when it is asked
            for, which is as fast if a model on the CPU needs the same cores.
        threads: decoding threads of this process, used if there are no worker processes.
        held: results that the caller holds at the same time.
        option: the option that sets the number of processes or threads, for messages.
        context: how processes are started; None for PyTorch's default.
        times: of so many processes, to be counted.

    Raises:
        ConfigError: the machine has too little memory or open files for so many processes; says what to do.
        UndecodableImageError: an image cannot be decoded and the decoder does not skip bad images; names the sample
            and the option.
        DataError: an image cannot be read, or a worker died; names the samples that the workers were reading.
    """
    at_row, watch = shared_rows(processes), times.of() if times else None
    if times:
        requests = times.count_drawing(requests)
    with contextlib.ExitStack() as stack:
        if processes:
            filled = fill_in_processes(
                decoder,
                requests,
                processes=processes,
                held=held,
                at_row=at_row,
                times=times,
                option=option,
                context=context,
            )
        else:
            filled = _fill_here(decoder, requests, threads, watch)
        if processes:
            stack.enter_context(explain_deaths(decoder.dataset, at_row, option))
        stack.enter_context(contextlib.closing(filled))
        yield stack.enter_context(contextlib.closing(_views(decoder, filled, watch)))


def _fill_here(
    decoder: ViewDecoder, requests: Iterable[Request], threads: int, watch: Stopwatch | None
) -> Generator[_Filled[Request], None, None]:
    pool = BufferPool()
    with contextlib.ExitStack() as stack:
        map_rows: Map = map
        if threads > 1:
            executor = ThreadPoolExecutor(threads, "decode", initializer=torch.set_num_threads, initargs=(1,))
            map_rows = stack.enter_context(executor).map
        for request in requests:
            memory = pool.empty((decoder.num_bytes(request),), torch.uint8)
            yield request, memory, decoder.fill(request, memory, lambda row: None, map_rows, watch)


def _views(
    decoder: ViewDecoder, filled: Iterable[_Filled[Request]], watch: Stopwatch | None
) -> Generator[LoadedViews[Request], None, None]:
    finish = functools.partial(_finish, decoder, watch or Stopwatch())
    try:
        if not torch.cuda.is_available():
            yield from map(finish, filled)
            return
        with ThreadPoolExecutor(1, "pin") as pool:
            yield from map_ahead(pool, lambda each: _pin(finish(each)), filled, ahead=1)
    except UndecodableImageError as error:
        # Where images are mixed across shards, stage one cannot leave one out.
        is_free = decoder.policy.partners == "shard" or not mix_steps(decoder.policy)
        others = ", or go on without such images: --on_bad_image skip" if is_free else ""
        raise UndecodableImageError(f"{error}; replace the image{others}") from error


def _finish(decoder: ViewDecoder, watch: Stopwatch, filled: _Filled[Request]) -> LoadedViews[Request]:
    (request, memory, rows), lap = filled, watch.lap()
    loaded = LoadedViews(request, *decoder.views(request, memory, rows))
    lap.end(DECODING)  # what nvJPEG does, and cutting on the GPU with it
    return loaded


def _pin(loaded: LoadedViews[Request]) -> LoadedViews[Request]:
    """Pin images on the CPU, so that a GPU can copy them asynchronously."""
    images = tuple(each if each.is_cuda else each.pin_memory() for each in loaded.images)
    return dataclasses.replace(loaded, images=images)
