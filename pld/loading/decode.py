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
from pld.views import Mixing, MixingPlan, Policy
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
    decoder: ViewDecoder, rows: Sequence[int], view_indexes: Sequence[int], plan: MixingPlan | None = None
) -> tuple[UInt8[Tensor, "n V 3 h w"], ...]:
    """Decode some views of some images, for each of the decoder's outputs.

    Args:
        decoder: makes the views.
        rows: n of the dataset's.
        view_indexes: V of them, the same of every image.
        plan: which images are mixed, if the decoder's policy mixes some: `pld.join.mixing.plan_mixing` makes it.

    Raises:
        UndecodableImageError: an image cannot be decoded and bad images are not skipped; names the sample.
        DataError: an image cannot be read.
        ConfigError: the policy mixes images and there is no plan.
    """
    some = np.asarray(rows, dtype=np.int64)
    mixing = Mixing.stack([plan.mixing(index, some) for index in view_indexes]) if plan else None
    request = ViewRequest(some, view_indexes, mixing=mixing)
    memory = torch.empty(decoder.num_bytes(request), dtype=torch.uint8)
    images, _, _ = decoder.views(request, memory, decoder.fill(request, memory, lambda row: None))
    return images
