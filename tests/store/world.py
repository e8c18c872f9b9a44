"""A small dataset with a teacher's logits, and helpers to store it: what the store's tests share."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pld.signals import TopK, tail_uniforms
from pld.store import (
    CodecIdentity,
    DatasetIdentity,
    FormatName,
    Identity,
    PartId,
    Shard,
    StoreWriter,
    TeacherIdentity,
    ViewIdentity,
    dataset_digest,
    grid_for,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """Shards of samples; the logits of (shard, view) are a pure function of the seed."""

    sizes: tuple[int, ...] = (5, 9, 3)
    num_classes: int = 20
    k: int = 4
    seed: int = 0
    spread: float = 3.0
    labelled: bool = True
    tail_samples: int = 0
    error: float | None = None
    format: FormatName = "zarr"
    policy: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: {"name": "random_resized_crop", "scale": (0.08, 1)}
    )

    @property
    def shards(self) -> list[Shard]:
        return [Shard(name=f"train-{index:04d}", num_samples=size) for index, size in enumerate(self.sizes)]

    @property
    def keys(self) -> np.ndarray:
        return np.array([f"n{index:05d}_é".encode() for index in range(sum(self.sizes))])

    @property
    def labels(self) -> np.ndarray:
        return np.random.default_rng(self.seed).integers(0, self.num_classes, sum(self.sizes))

    @property
    def identity(self) -> Identity:
        return Identity(
            teacher=TeacherIdentity(
                name="resnet50",
                tag="a1_in1k",
                weights_sha256=hashlib.sha256(b"weights").hexdigest(),
                num_classes=self.num_classes,
                input_size=(224, 224),
                mean=(0.485, 0.456, 0.406),
                std=(0.229, 0.224, 0.225),
                interpolation="bicubic",
                precision="fp32",
            ),
            views=ViewIdentity(policy=self.policy, seed=7, drawing_version=1),
            dataset=DatasetIdentity(
                digest=dataset_digest(self.keys, self.labels if self.labelled else None),
                num_samples=sum(self.sizes),
                class_names=None,
                labelled=self.labelled,
            ),
            codec=CodecIdentity(k=self.k, grid=grid_for(self.error), tail_samples=self.tail_samples, error=self.error),
        )

    def rows(self, shard: str) -> slice:
        """The shard's rows in the world's keys and labels."""
        index = int(shard.rpartition("-")[2])
        return slice(sum(self.sizes[:index]), sum(self.sizes[: index + 1]))

    def logits(self, shard: str, view: int) -> torch.Tensor:
        """float32 [N, C]."""
        generator = np.random.default_rng([self.seed, view, *shard.encode()])
        rows = self.rows(shard)
        scale = self.spread * generator.uniform(0.2, 2, (rows.stop - rows.start, 1))
        return torch.from_numpy(generator.normal(size=(rows.stop - rows.start, self.num_classes)) * scale).float()

    def signal(self, shard: str, view: int, k: int | None = None) -> TopK:
        """What the store should hold of one shard's view."""
        labels = torch.from_numpy(self.labels[self.rows(shard)]) if self.labelled else None
        rows = self.rows(shard)
        keys = [key.decode() for key in self.keys[rows].tolist()]
        return TopK.from_logits(
            self.logits(shard, view),
            labels,
            k or self.k,
            self.identity.codec.temperatures,
            tail_samples=self.tail_samples,
            uniforms=tail_uniforms(keys, view, seed=7),
            error=self.error,
            logprob_error=self.identity.codec.logprob_error,
        )

    def no_signal(self) -> TopK:
        """The signal of no rows."""
        nothing = torch.zeros(0, self.num_classes), torch.zeros(0, dtype=torch.int64) if self.labelled else None
        return TopK.from_logits(
            *nothing, self.k, self.identity.codec.temperatures, tail_samples=self.tail_samples, error=self.error
        )

    def open_writer(self, url: str | Path) -> StoreWriter:
        return StoreWriter.open(str(url), self.identity, self.shards, {"made_by": "tests"}, format=self.format)

    def write_part(self, writer: StoreWriter, part: PartId):
        rows = self.rows(part.shard)
        views = [self.signal(part.shard, view) for view in part.views]
        return writer.write_part(part, self.keys[rows], self.labels[rows] if self.labelled else None, views)

    def write(self, url: str | Path, num_views: int, block_views: int = 10) -> StoreWriter:
        """A finished store."""
        writer = self.open_writer(url)
        for part in writer.missing_parts(num_views, block_views):
            self.write_part(writer, part)
        writer.seal()
        return writer

    def write_with_an_empty_part(self, url: str | Path) -> StoreWriter:
        """A finished store of one view, all samples of whose second and last shard were skipped."""
        writer = self.open_writer(url)
        first, second = writer.missing_parts(1)
        self.write_part(writer, first)
        skipped = [key.decode() for key in self.keys[self.rows(second.shard)].tolist()]
        labels = np.zeros(0, np.int64) if self.labelled else None
        writer.write_part(second, [], labels, [self.no_signal()], skipped=skipped)
        writer.seal()
        return writer


def tree(root: str | Path) -> dict[str, bytes]:
    """All files of a folder, hidden ones too."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(Path(root).rglob("*")) if path.is_file()
    }


def paths_of(value, path=()):
    """Where each value lies inside a JSON document."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from paths_of(child, (*path, key))


def replaced(value, path, new):
    """The document with another value there."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy
