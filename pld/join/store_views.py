"""StoreViews: a store's views of its images as a plain PyTorch dataset, and what the teacher said of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import SupportsIndex

from jaxtyping import Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from pld.errors import ConfigError
from pld.images import Source
from pld.join.match import join_source, stored_policy
from pld.join.pixel_probes import compare_probes
from pld.join.shown_view import ShownView
from pld.loading import decode_views, view_decoder
from pld.signals import TopK
from pld.store import Store
from pld.views import Interpolation, Policy, mix_steps
from pld.views.preprocessing import Preprocessing

_LOG = logging.getLogger(__name__)


class StoreViews(Dataset[tuple[UInt8[Tensor, "3 h w"], int]]):
    """Row -> (that image's view, the row); `topk(rows)` is the teacher's signal of these views.

    Nothing else may change the pixels: no further crop, flip, jitter, erasing or mixing.

    Attributes:
        store: the teacher's logits.
        source: the images, under the store's keys; those that the store had to skip are left out.
    """

    def __init__(
        self, store: Store, source: Source, size: int | Sequence[int], interpolation: Interpolation = "bicubic"
    ) -> None:
        """Join them.

        Args:
            store: its views are of single images.
            source: the images that were cached, or some of them.
            size: of the views, side or (height, width), pixels.
            interpolation: of the crop that is resized to it.

        Raises:
            ConfigError: the store's views are mixed with other images.
            DataError, NotCachedError, StoreError: these are not the store's images; see `join_source`.
            DifferentPixelsError: their pixels are not what the teacher saw; small differences are logged as a warning.
        """
        policy = stored_policy(store)
        refuse_mixed(store, policy)
        warn_of_nvjpeg(store)
        self.store, self.source = store, join_source(store, source)
        if warning := compare_probes(store.probes, self.source, policy, store.url):
            _LOG.warning("%s", warning)
        height, width = (size, size) if isinstance(size, int) else size
        outputs = [Preprocessing(input_size=(height, width), interpolation=interpolation)]
        self._decoder = view_decoder(self.source, policy, outputs)
        self._rows = store.rows(self.source.keys)
        self._shown = ShownView(store)

    def set_epoch(self, epoch: int) -> None:
        """Epoch e shows view e mod V; call it before an epoch's loader is started."""
        self._shown.set_epoch(epoch)

    @property
    def view(self) -> int:
        """The index of the view that is shown."""
        return self._shown.index

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, row: SupportsIndex) -> tuple[UInt8[Tensor, "3 h w"], int]:
        number = row.__index__()
        (images,) = decode_views(self._decoder, [number], [self.view])
        return images[0, 0], number

    def topk(self, rows: Int[Tensor, "B"]) -> TopK:
        """What the teacher said of the view of these rows, on their device; its `labels` are the samples'."""
        topk = self._shown.load()[self._rows[rows.cpu().numpy()]]
        return topk.to(rows.device, non_blocking=True)


def refuse_mixed(store: Store, policy: Policy) -> None:
    """Raise ConfigError where a store's views are mixed with other images, which single samples cannot be."""
    if mix_steps(policy):
        raise ConfigError(
            f"{store.url}: its views are mixed with other images (mixup, cutmix), which StoreViews and join do not "
            "support; use train_student, or a store without mixing"
        )


def warn_of_nvjpeg(store: Store) -> None:
    """Log a warning where nvJPEG decoded a store's views, as here the CPU will."""
    if store.manifest.identity.views.decoder == "nvjpeg":
        _LOG.warning(
            "%s: nvJPEG decoded the teacher's views; StoreViews and join decode on the CPU, which gives slightly other "
            "pixels. train_student can decode with nvJPEG",
            store.url,
        )
