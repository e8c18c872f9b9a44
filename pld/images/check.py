"""Check a source: decode every image once, to find the broken ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from pld.errors import DataError, UndecodableImageError
from pld.images.decode.image import decode_image
from pld.images.sources.source import Source
from pld.prefetch import map_ahead

# Images submitted ahead, per thread: diagnosing a broken one takes longer than decoding.
_AHEAD = 4


def find_broken_images(source: Source, threads: int, on_image: Callable[[], object]) -> Iterator[tuple[int, str]]:
    """Yield the rows whose images cannot be read or decoded, in order, each with the reason.

    Images are decoded whole, whereas caching and training decode only what their views need. Few images are in memory
    at once, whatever the source's size.

    Args:
        source: the images.
        threads: how many decode; the decoders release the GIL.
        on_image: called after each image.

    Raises:
        DataError: an image behind a URL cannot be read, which does not mean that it is broken.
    """
    with ThreadPoolExecutor(threads, "decode") as pool:
        reasons = map_ahead(pool, lambda row: _reason(source, row), range(len(source)), ahead=_AHEAD * threads)
        try:
            for row, reason in enumerate(reasons):
                if reason is not None:
                    yield row, reason
                on_image()
        finally:
            reasons.close()  # else the pool would first finish everything submitted


def _reason(source: Source, row: int) -> str | None:
    """What is wrong with an image, without its name; None if nothing is."""
    try:
        decode_image(source.read(row))
    except UndecodableImageError as error:
        return str(error)
    except DataError as error:
        if source.remote:
            raise
        return str(error).removeprefix(f"{source.files[source.file_index[row]]}: sample {source.key(row)}: ")
    return None
