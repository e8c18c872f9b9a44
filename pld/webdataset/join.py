"""join: the step, which matches samples with a store by their keys; collate: its samples as a batch."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from pld.errors import DataError, NotCachedError, UndecodableImageError
from pld.images.decode.image import IMAGE_EXTENSIONS, decode_image, jpeg_size
from pld.images.sources.keys import NO_MATCH, KeyMatcher, sample_key
from pld.join.match import stored_policy
from pld.join.pixel_probes import compare_image
from pld.join.shown_view import ShownView
from pld.join.store_views import refuse_mixed, warn_of_nvjpeg
from pld.signals import TopK, with_tensors
from pld.store import Store
from pld.views import Interpolation, View, apply_view, draw_view

Sample = Mapping[str, Any]

_LOG = logging.getLogger(__name__)


class join:  # noqa: N801 - named and used like webdataset's own steps, which are functions
    """A step for a WebDataset pipeline, in front of any decoding: `WebDataset(urls).compose(join(store, 224))`.

    To each sample it adds `topk`, the store's TopK of this one sample, `view`, the View that the teacher saw, and, if a
    size is given, `pixels`, uint8 [3, h, w]: the view cut out of the sample's image. The logits are of these pixels and
    of no others, so nothing else may change them.

    Keys are matched as FORMAT.md says. Samples that the store had to skip are left out. The store keeps the pixels of a
    few views: when their samples pass, they are compared, and a small difference is logged as a warning, once.
    """

    def __init__(
        self,
        store: Store,
        size: int | tuple[int, int] | None = None,
        *,
        interpolation: Interpolation = "bicubic",
        missing: Literal["error", "skip"] = "error",
    ) -> None:
        """Make the step.

        Args:
            store: of the teacher's logits of these images.
            size: of `pixels`, side or (height, width); None leaves cutting the view to you.
            interpolation: of the crop that is resized to it.
            missing: what to do with samples that the store has not: an error, or leave them out.

        Raises:
            ConfigError: the store's views are mixed with other images, or have a step that is not installed.
        """
        self._policy = stored_policy(store)
        refuse_mixed(store, self._policy)
        warn_of_nvjpeg(store)
        self._store, self._size, self._interpolation, self._missing = store, size, interpolation, missing
        # Those that were skipped come last: they are known, and have no row.
        skipped = np.array([key.encode() for key in store.skipped], dtype=np.bytes_)
        self._held = np.concatenate([store.keys, skipped]) if len(skipped) else store.keys
        self._matcher = KeyMatcher(self._held)
        self._shown = ShownView(store)
        self._shown.load()  # before workers are forked, which then share it
        self._probes = {probe.key: probe for probe in store.probes}
        self._has_warned = torch.zeros((), dtype=torch.bool).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Epoch e gives view e mod V; call it before an epoch's loader is started. Loads the view."""
        self._shown.set_epoch(epoch)
        self._shown.load()

    @property
    def view_index(self) -> int:
        """The index of the view that it gives."""
        return self._shown.index

    def __call__(self, samples: Iterable[Sample]) -> Iterator[dict[str, Any]]:
        """Join samples.

        Raises:
            NotCachedError: a sample is not in the store, and `missing` is "error".
            DataError: a sample's label is not the store's, two samples match one of the store's, or a sample has no
                undecoded image.
            DifferentPixelsError: a sample's pixels are not what the teacher saw.
            UndecodableImageError: an image cannot be decoded; names the sample.
        """
        for sample in samples:
            joined = self._join(sample)
            if joined is not None:
                yield joined

    def _join(self, sample: Sample) -> dict[str, Any] | None:
        where = f"{sample.get('__url__', 'WebDataset')}: sample {sample['__key__']}"
        row = self._matcher.match(sample_key(sample["__key__"].encode()))
        if row == NO_MATCH and self._missing == "error":
            raise NotCachedError(
                f"{where}: is not in {self._store.url}, whose keys are such as {self._held[0].decode()!r}; give the "
                'images that were cached, or leave these out: join(..., missing="skip")'
            )
        if row == NO_MATCH or row >= self._store.num_samples:
            return None
        table = self._shown.load()
        topk = table[[row]]
        self._check_label(sample, topk, where)
        data, key = _image_of(sample, where), self._held[row].decode()
        self._compare(key, data)
        view, pixels = self._cut(data, key, table.view, where)
        added = {"topk": topk, "view": view}
        return {**sample, **added} if pixels is None else {**sample, **added, "pixels": pixels}

    def _check_label(self, sample: Sample, topk: TopK, where: str) -> None:
        if "cls" not in sample or topk.labels is None:
            return
        label, stored = int(sample["cls"]), int(topk.labels)
        if label != stored:
            raise DataError(
                f"{where}: its label is {label}, {self._store.url} has {stored}; give the images that were cached, "
                "with their labels, or leave the labels out: the store's are in topk.labels"
            )

    def _compare(self, key: str, data: bytes) -> None:
        """Compare a sample with its probe, if it has one, the first time that it passes in this process."""
        probe = self._probes.get(key)
        if probe is None:
            return
        warning = compare_image(probe, data, self._policy, self._store.url)
        del self._probes[key]
        if warning and not self._has_warned:
            self._has_warned.fill_(True)
            _LOG.warning("%s", warning)

    def _cut(self, data: bytes, key: str, index: int, where: str) -> tuple[View, UInt8[Tensor, "3 h w"] | None]:
        """The view, in pixels of the whole image, and its own pixels if they are wanted."""
        size = jpeg_size(data)
        try:
            image = decode_image(data) if size is None else None
            view = draw_view(key, index, size or (image.shape[1], image.shape[2]), self._policy)  # type: ignore[union-attr]
            if self._size is None:
                return view, None
            if image is not None:
                return view, apply_view(image, view, self._size, self._interpolation)
            box = decode_image(data, size, (view.top, view.left, view.height, view.width))
        except UndecodableImageError as error:
            raise UndecodableImageError(f"{where}: {error}") from error
        return view, apply_view(box, dataclasses.replace(view, top=0, left=0), self._size, self._interpolation)


def collate(samples: Sequence[Sample]) -> dict[str, Any]:
    """Joined samples as one batch, for `WebLoader(dataset, batch_size=64, collate_fn=collate)`.

    Returns:
        `pixels`, uint8 [B, 3, h, w], if the samples have them; `topk`, a TopK of B samples; `view` and `__key__`,
        lists.
    """
    batch: dict[str, Any] = {name: [sample[name] for sample in samples] for name in ("__key__", "view")}
    topks = [sample["topk"] for sample in samples]
    batch["topk"] = with_tensors(topks, lambda *tensors: torch.cat(tensors))
    if "pixels" in samples[0]:
        batch["pixels"] = torch.stack([sample["pixels"] for sample in samples])
    return batch


def _image_of(sample: Sample, where: str) -> bytes:
    """The sample's encoded image."""
    found = [name for name in sample if name.lower().rpartition(".")[2] in IMAGE_EXTENSIONS]
    if len(found) != 1:
        have = ", ".join(name for name in sample if not name.startswith("__"))
        raise DataError(f"{where}: has {len(found)} images among {have}; wanted one, such as jpg")
    data = sample[found[0]]
    if not isinstance(data, bytes):
        raise DataError(
            f"{where}: {found[0]} is a {type(data).__name__}, wanted the file's bytes; put join in front of decode"
        )
    return data
