"""What decoding a photo for one crop costs a core: beside simplejpeg, whole and down to the crop's last row.

    make bench-decode [PHOTOS='photos-{0000..0003}.tar']

Crops are the default policy's, another one each round; all give the same pixels of it. In turn, one thread, images in
memory. Without PHOTOS, images are generated. Ends with one line of JSON: the compiled part's speed over the others'.
Not measured: resizing, files, GPUs.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import simplejpeg

from experiments.benchmarks.input.photos import write_images
from experiments.benchmarks.timing import CPU, Spread, in_turn, machine, print_figures, ratio, timed
from pld.images import open_source
from pld.images.decode.image import jpeg_size
from pld.images.decode.jpeg_box import HAS_BOXES, Box, decode_box
from pld.images.decode.jpeg_rows import decode_upper_rows
from pld.views import RandomResizedCrop, draw_view

ROUNDS, IMAGES = 9, 200
Decode = Callable[[bytes, tuple[int, int], Box], object]


def _upper_rows(data: bytes, size: tuple[int, int], box: Box) -> object:
    """As `decode_image` does where there is no compiled part."""
    upper = decode_upper_rows(data, size, box[0] + box[2])
    return simplejpeg.decode_jpeg(data) if upper is None else upper


def _crop(key: str, number: int, size: tuple[int, int]) -> Box:
    view = draw_view(key, number, size, RandomResizedCrop())
    return view.top, view.left, view.height, view.width


WAYS: dict[str, Decode] = {
    "simplejpeg, whole photos": lambda data, size, box: simplejpeg.decode_jpeg(data),
    "simplejpeg, the upper rows": _upper_rows,
    "the compiled part, whole photos": lambda data, size, box: decode_box(data, size, (0, 0, *size)),
    "the compiled part, the crop": decode_box,
}


def main() -> None:
    if not HAS_BOXES:
        raise SystemExit("there is no compiled part here to measure; docs/decisions/0016 says how to get it")
    with tempfile.TemporaryDirectory() as folder:
        described = write_images("PHOTOS", Path(folder), IMAGES)
        source = open_source(str(Path(folder) / "shards"))
        images = {source.key(row): source.read(row) for row in range(len(source))}
    sizes = {key: jpeg_size(data) or (0, 0) for key, data in images.items()}
    images = {
        key: data for key, data in images.items() if decode_box(data, sizes[key], (0, 0, *sizes[key])) is not None
    }
    print(f"{machine(CPU)}; n = {ROUNDS} rounds in turn, median (quartiles)")
    print(f"{described}; {len(images)} of a kind that the compiled part takes\n")
    # Each way takes the same crops, another one of every photo each round.
    rounds = [{key: _crop(key, number, sizes[key]) for key in images} for number in range(ROUNDS)]

    def timer(decode: Decode) -> Callable[[], float]:
        crops = iter(rounds)

        def decode_all() -> None:
            boxes = next(crops)
            for key, data in images.items():
                decode(data, sizes[key], boxes[key])

        return lambda: timed(decode_all)

    seconds = in_turn({name: timer(decode) for name, decode in WAYS.items()}, ROUNDS)
    *others, ours = WAYS
    for name, taken in seconds.items():
        beside = "" if name == ours else f"   {ratio(taken, seconds[ours])} times as long as the crop"
        print(f"  {name:33}{Spread.of(taken, 1e6 / len(images))} us a photo{beside}")
    keys = {name: f"x_{name}".replace(",", "").replace(" ", "_") for name in others}
    print_figures({key: ratio(seconds[name], seconds[ours]).median for name, key in keys.items()})


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
