"""Check that this machine's pixels match those that the teacher saw: a store keeps a few small views as probes.

It also keeps the sizes of their images. A crop of a resized image is nearly the same crop; by its pixels alone the
difference would look like another decoder's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8

from pld.errors import DifferentPixelsError, UndecodableImageError
from pld.images import Source
from pld.images.dataset import decode_row
from pld.images.decode.image import decode_image, jpeg_size
from pld.loading import decode_views, view_decoder
from pld.store import Probe
from pld.views import MixingPlan, Policy, apply_view, draw_view
from pld.views.preprocessing import Preprocessing

_NUM_PROBES = 4
_MAX_TRIES = 64
_SIDE = 32
# Of the difference to a probe, relative to the probe's own contrast; docs/decisions/0009 has the measurements.
_MAX_DISTANCE = 0.25
# Contrast below which an image is too flat to tell crops apart, in steps of 255.
_MIN_CONTRAST = 8.0

# A probe and its pixels as they are drawn here.
_Compared = tuple[Probe, UInt8[np.ndarray, "3 h w"]]


def make_probes(
    source: Source, policy: Policy, gpu: torch.device | None = None, plan: MixingPlan | None = None
) -> list[Probe]:
    """Draw view 0 of a few samples spread over the dataset, leaving out those that cannot be decoded.

    Those whose partner cannot be decoded are left out too.

    Args:
        source: the images.
        policy: how views are drawn.
        gpu: where nvJPEG decodes them, if it does.
        plan: what they are mixed with, if they are.
    """
    probes: list[Probe] = []
    for row in _candidates(len(source)):
        try:
            pixels = _pixels(source, row, 0, policy, (_SIDE, _SIDE), gpu, plan)
            image_size = _image_size(source, row)
        except UndecodableImageError:
            continue
        probes.append(Probe(key=source.key(row), view=0, pixels=pixels, image_size=image_size))
        if len(probes) == _NUM_PROBES:
            break
    return probes


def compare_probes(
    probes: Sequence[Probe],
    source: Source,
    policy: Policy,
    where: str,
    gpu: torch.device | None = None,
    plan: MixingPlan | None = None,
) -> str | None:
    """Redraw a store's probes, those of the source's samples, and compare.

    Args:
        probes: the store's.
        source: its images, or some of them.
        policy: how its views are drawn.
        where: the store's place, for messages.
        gpu: where nvJPEG decodes them, if it does.
        plan: what they are mixed with, if they are.

    Returns:
        None if every pixel is the same or no image can be decoded, else a warning with the size of the difference.

    Raises:
        DifferentPixelsError: an image's size has changed, or views differ so much that the images or crops are others.
        DataError: an image cannot be read.
        ConfigError: the policy mixes images and there is no plan.
    """
    rows = {key.decode(): row for row, key in enumerate(source.keys.tolist())} if probes else {}
    held = [probe for probe in probes if probe.key in rows]
    found: list[_Compared] = []
    for probe in held:
        row = rows[probe.key]
        # An image that is broken now cannot be compared; the code that needs it reports or skips it.
        with contextlib.suppress(UndecodableImageError):
            _check_size(probe, _image_size(source, row), where)
            found.append((probe, _pixels(source, row, probe.view, policy, probe.pixels.shape[1:], gpu, plan)))
    return _judge(found, where)


def compare_image(probe: Probe, data: bytes, policy: Policy, where: str) -> str | None:
    """Redraw one probe, whose views are not mixed, from its image's file on the CPU; see `compare_probes`."""
    try:
        image = decode_image(data)
    except UndecodableImageError:
        return None
    size = (image.shape[1], image.shape[2])
    _check_size(probe, size, where)
    view = draw_view(probe.key, probe.view, size, policy)
    return _judge([(probe, apply_view(image, view, probe.pixels.shape[1:]).numpy())], where)


def _judge(found: Sequence[_Compared], where: str) -> str | None:
    """None, a warning or DifferentPixelsError; see `compare_probes`."""
    distances = [_distance(probe.pixels, pixels) for probe, pixels in found]
    steps = [float(np.abs(probe.pixels.astype(float) - pixels).mean()) for probe, pixels in found]
    if max(distances, default=0.0) > _MAX_DISTANCE:
        worst = int(np.argmax(distances))
        probe = found[worst][0]
        raise DifferentPixelsError(
            f"{where}: view {probe.view} of sample {probe.key} is not what the teacher saw: it differs by "
            f"{steps[worst]:.1f} of 255 on average, {distances[worst]:.2f} of its contrast. These are other images, or "
            "this version draws other crops; use the images and the package that the store was made with"
        )
    if not any(steps):
        return None
    # Probes from before sizes were kept may also differ because the image was resized.
    has_sizes = all(probe.image_size for probe, _ in found)
    others = "" if has_sizes else ", or the images were resized since they were cached"
    return (
        f"{where}: this machine decodes or resizes images a little differently than the teacher's{others}: by at most "
        f"{max(steps):.2g} of 255 on average, in {sum(map(bool, steps))} of {len(steps)} stored views"
    )


def _candidates(num_samples: int) -> list[int]:
    """Rows spread over the dataset, the ones farthest apart first."""
    far = np.linspace(0, num_samples - 1, _NUM_PROBES).astype(int).tolist()
    more = np.linspace(0, num_samples - 1, _MAX_TRIES).astype(int).tolist()
    return list(dict.fromkeys([*far, *more]))


def _image_size(source: Source, row: int) -> tuple[int, int]:
    """(height, width) of the whole image, from its header if that is enough."""
    data = source.read(row)
    if size := jpeg_size(data):
        return size
    _, height, width = decode_row(source, row, data).shape
    return height, width


def _check_size(probe: Probe, size: tuple[int, int], where: str) -> None:
    """Raise DifferentPixelsError if a probe's image had another size."""
    if probe.image_size not in (None, size):
        was, now = (" x ".join(map(str, sides)) for sides in (probe.image_size, size))
        raise DifferentPixelsError(
            f"{where}: the image of sample {probe.key} was {was} pixels and is now {now} (height x width): re-encoded "
            "or resized since it was cached; use the images that the store was made with, or cache these again"
        )


def _pixels(
    source: Source,
    row: int,
    view_index: int,
    policy: Policy,
    size: tuple[int, int],
    gpu: torch.device | None,
    plan: MixingPlan | None,
) -> UInt8[np.ndarray, "3 h w"]:
    decoder = view_decoder(source, policy, [Preprocessing(input_size=size)], gpu=gpu)
    (views,) = decode_views(decoder, [row], [view_index], plan)
    return views[0, 0].cpu().contiguous().numpy()


def _distance(wanted: UInt8[np.ndarray, "3 h w"], found: UInt8[np.ndarray, "3 h w"]) -> float:
    """Root mean square of the difference over the probe's contrast."""
    rms = float(np.sqrt(np.mean((wanted.astype(float) - found) ** 2)))
    return rms / max(float(wanted.std()), _MIN_CONTRAST)
