"""Choose a view decoder, and decode a few views in this process."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from pld.images.dataset import ImageDataset
from pld.loading.nvjpeg import NvjpegViewDecoder
from pld.loading.view_decoder import CpuViewDecoder, ViewDecoder, ViewRequest
from pld.views import Policy
from pld.views.preprocessing import Preprocessing


def view_decoder(
    dataset: ImageDataset,
    policy: Policy,
    outputs: Sequence[Preprocessing],
    *,
    gpu: torch.device | None = None,
    skip_bad_images: bool = False,
) -> ViewDecoder:
    """The decoder of a dataset's views: nvJPEG if a GPU is given, else the CPU."""
    make: Callable[..., ViewDecoder]
    make = CpuViewDecoder if gpu is None else functools.partial(NvjpegViewDecoder, device=gpu)
    return make(dataset=dataset, policy=policy, outputs=tuple(outputs), skip_bad_images=skip_bad_images)


def decode_views(
    decoder: ViewDecoder, rows: Sequence[int], view_indexes: Sequence[int]
) -> tuple[UInt8[Tensor, "n V 3 h w"], ...]:
    """Decode some views of some images, for each of the decoder's outputs.

    Raises:
        UndecodableImageError: an image cannot be decoded and bad images are not skipped; names the sample.
        DataError: an image cannot be read.
    """
    request = ViewRequest(np.asarray(rows, dtype=np.int64), view_indexes)
    memory = torch.empty(decoder.num_bytes(request), dtype=torch.uint8)
    images, _ = decoder.views(request, memory, decoder.fill(request, memory, lambda row: None))
    return images
