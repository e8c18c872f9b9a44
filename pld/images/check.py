"""Decode every image of a source once, to find those that cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from pld.errors import DataError, UndecodableImageError
from pld.images.decode.image import decode_image
from pld.images.sources.source import Source
from pld.prefetch import map_ahead

# Images begun before they are asked for, per thread: a broken one is told from its bytes, which takes longer.
_AHEAD = 4


def find_broken_images(source: Source, threads: int, on_image: Callable[[], object]) -> Iterator[tuple[int, str]]:
    """The rows whose images cannot be read or decoded, in order, each with the reason.

    Whole images are decoded, as no cache and no training does where a view needs less. Few of them are held at once,
    whatever the source's size.

    Args:
        source: the images.
        threads: how many decode; the decoders let go of Python's lock.
        on_image: called after each image.

    Raises:
        DataError: what is behind a URL cannot be read, which says nothing of the image.
    """
    with ThreadPoolExecutor(threads, "decode") as pool:
        reasons = map_ahead(pool, lambda row: _reason(source, row), range(len(source)), ahead=_AHEAD * threads)
        try:
            for row, reason in enumerate(reasons):
                if reason is not None:
                    yield row, reason
                on_image()
        finally:
            reasons.close()  # else the pool would first do all that has begun


def _reason(source: Source, row: int) -> str | None:
    """What is wrong with an image, without its name; None where nothing is."""
    try:
        decode_image(source.read(row))
    except UndecodableImageError as error:
        return str(error)
    except DataError as error:
        if source.remote:
            raise
        return str(error).removeprefix(f"{source.files[source.file_index[row]]}: sample {source.key(row)}: ")
    return None
