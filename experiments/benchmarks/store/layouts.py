"""What others do: TinyViT's records, a file for each sample, and all classes as float16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pld.signals import TopK


class TinyViT:
    """Records of an int32 seed, k int16 classes and k float16 probabilities; each sample is sought and read by itself.

    As Microsoft's TinyViT reads them: a seek, a read, three frombuffers, two tensors a sample, then stacked.
    """

    def __init__(self, path: Path, k: int) -> None:
        self._k, self._size = k, 4 + 4 * k
        self._file = path.open("rb")

    @staticmethod
    def write(path: Path, topks: list[TopK]) -> None:
        with path.open("wb") as file:
            for topk in topks:
                record = np.zeros(
                    len(topk.labels), [("seed", "<i4"), ("classes", "<i2", topk.k), ("values", "<f2", topk.k)]
                )
                record["classes"], record["values"] = topk.classes.numpy(), topk.logprobs.exp().numpy()
                file.write(record.tobytes())

    def __getitem__(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        samples = [self._sample(row) for row in rows.tolist()]
        return torch.stack([classes for classes, _ in samples]), torch.stack([values for _, values in samples])

    def _sample(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        self._file.seek(row * self._size)
        data = self._file.read(self._size)
        np.frombuffer(data[:4], np.int32)
        classes = np.frombuffer(data[4 : 4 + 2 * self._k], np.int16)
        values = np.frombuffer(data[4 + 2 * self._k :], np.float16)
        return torch.from_numpy(classes.astype(np.int64)), torch.from_numpy(values.astype(np.float32))


class Files:
    """A .npy of float32 [2, k] for each sample, as ml-dr and FKD keep theirs, but without pickle."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @staticmethod
    def write(folder: Path, topk: TopK, first: int) -> None:
        folder.mkdir(exist_ok=True)
        entries = torch.stack([topk.classes.float(), topk.logprobs], dim=1).numpy()
        for row, entry in enumerate(entries, first):
            np.save(folder / f"{row:07d}.npy", entry)

    def __getitem__(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        both = torch.stack([torch.from_numpy(np.load(self._folder / f"{row:07d}.npy")) for row in rows.tolist()])
        return both[:, 0].long(), both[:, 1]


def dense_bytes(path: Path, logits: torch.Tensor) -> int:
    """Bytes of a view's float16 log-probabilities of all classes, written and read back."""
    np.save(path, torch.log_softmax(logits, dim=1).half().numpy())
    assert np.load(path).shape == tuple(logits.shape)
    return path.stat().st_size
