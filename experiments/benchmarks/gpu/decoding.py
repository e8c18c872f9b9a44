"""What `bench_gpu` checks and times of images that the GPU decodes."""

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from experiments.benchmarks.gpu.checks import Check
from experiments.benchmarks.input.photos import write_images
from experiments.benchmarks.timing import Spread, timed
from pld.images import Source, open_source
from pld.loading import ViewRequest, decode_views, view_decoder
from pld.loading.nvjpeg import check_device
from pld.loading.view_decoder import decode_for_views
from pld.views import apply_view
from pld.views.batch_resize import apply_views
from pld.views.preprocessing import Preprocessing
from tests.making import write_tar

BATCH, BATCHES, ROUNDS = 64, 8, 7
# Of 255, on average over a view: nvJPEG interpolates chroma otherwise. Another view or other colours are tens of them.
MEAN_STEPS = 8.0
PREPROCESSING = Preprocessing()


def resized_as_on_a_cpu(device: torch.device) -> None:
    """The same decoded images, cut and resized on the device: at most two steps of 255 from one by one on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        source = photos(Path(folder), BATCH)
        images, views = zip(
            *(decode_for_views(source, row, [0], source.policy) for row in range(len(source))), strict=True
        )
        for interpolation in ("bilinear", "bicubic"):
            found = apply_views([i.to(device) for i in images], [v for (v,) in views], (224, 224), interpolation).cpu()
            for image, (view,), pixels in zip(images, views, found, strict=True):
                off = (pixels.int() - apply_view(image, view, 224, interpolation).int()).abs()
                assert int(off.max()) <= 2, f"{interpolation}: {int(off.max())} steps of 255 off"


def decoded_nearly_as_on_a_cpu(device: torch.device) -> None:
    """Views of all kinds of JPEGs: near what the CPU decodes, and the same again in another batch."""
    with tempfile.TemporaryDirectory() as folder:
        source = kinds(Path(folder))
        rows = list(range(len(source)))
        found, again = cut(source, rows, device), cut(source, rows[::-1], device).flip(0)
        assert int((found.int() - again.int()).abs().max()) <= 1, "another batch gives other pixels"
        for row, pixels, wanted in zip(rows, found.cpu(), cut(source, rows, None), strict=True):
            steps = (pixels.float() - wanted.float()).abs().mean()
            assert steps < MEAN_STEPS, f"{source.key(row)}: {steps:.2f} steps of 255 off on average"


def images_per_second(device: torch.device, batches: int = BATCHES, rounds: int = ROUNDS) -> Spread:
    """Print and return how many images one thread decodes, cuts to 224 px and resizes on the device; reading apart."""
    with tempfile.TemporaryDirectory() as folder:
        source = photos(Path(folder), BATCH * batches)
        decoder = view_decoder(source, source.policy, [PREPROCESSING], gpu=device)
        filled = []
        for first in range(0, len(source), BATCH):
            request = ViewRequest(np.arange(first, first + BATCH), (0,))
            memory = torch.empty(decoder.num_bytes(request), dtype=torch.uint8)
            filled.append((request, memory, decoder.fill(request, memory, lambda row: None)))

        def cut_all() -> None:
            for each in filled:
                decoder.views(*each)

        cut_all()  # allocates
        spread = Spread.of([len(source) / timed(cut_all) for _ in range(rounds)])
        print(f"nvJPEG: {spread} images/s in batches of {BATCH}, decoded, cropped once and resized to 224 x 224")
        return spread


def cut(source: Source, rows: list[int], device: torch.device | None) -> torch.Tensor:
    """View 0 of some rows, [B, 3, 224, 224], decoded on the device, or on the CPU where None."""
    return decode_views(view_decoder(source, source.policy, [PREPROCESSING], gpu=device), rows, [0])[0][:, 0]


def photos(folder: Path, num: int) -> Source:
    """So many images: PHOTOS, if the environment names them, else generated ones."""
    write_images("PHOTOS", folder, num)
    return open_source(str(folder / "shards"))


def kinds(folder: Path) -> Source:
    """Photos in colour, of every chroma sampling and progressive, and in grey."""
    photo = Image.open(io.BytesIO(photos(folder / "photos", 1).read(0))).convert("RGB")
    settings = {f"sampling{sampling}": {"subsampling": sampling} for sampling in ("4:4:4", "4:2:2", "4:2:0", "4:1:1")}
    members = {}
    for name, each in {**settings, "progressive": {"progressive": True}, "grey": {}}.items():
        encoded = io.BytesIO()
        (photo.convert("L") if name == "grey" else photo).save(encoded, "JPEG", quality=90, **each)
        members |= {f"{name.replace(':', '')}.jpg": encoded.getvalue(), f"{name.replace(':', '')}.cls": b"0"}
    return open_source(str(write_tar(folder / "kinds.tar", members)))


def decoding_checks(device: torch.device) -> Iterator[Check]:
    """Every check's name, and a call that raises where it does not hold."""
    yield "nvJPEG decodes here", lambda: check_device(device)
    yield "views resized by the GPU", lambda: resized_as_on_a_cpu(device)
    yield "views decoded by the GPU", lambda: decoded_nearly_as_on_a_cpu(device)
