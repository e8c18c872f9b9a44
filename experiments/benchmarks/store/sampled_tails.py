"""What a sampled tail costs and is worth at T = 2, beside larger top-ks whose tail is lumped."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from experiments.benchmarks.store.logits import NUM_CLASSES, NUM_SAMPLES, NUM_VIEWS, TEMPERATURES, Logits
from pld.losses import kd_loss
from pld.signals import TopK
from pld.store import Shard, StoreWriter
from tests.store.world import World, tree

TEMPERATURE = 2.0


def sampled_tails(folder: Path, given: Logits) -> dict[str, float]:
    """Bytes a view and the error of KD's gradient, for classes kept and drawn."""
    figures: dict[str, float] = {}
    for k, drawn in ((10, 0), (10, 4), (10, 8), (10, 16), (20, 0), (50, 0), (NUM_CLASSES, 0)):
        generator = torch.Generator().manual_seed(0)
        topks = [
            TopK.from_logits(
                view,
                given.labels,
                k,
                TEMPERATURES,
                tail_samples=drawn,
                uniforms=torch.rand(len(view), dtype=torch.float64, generator=generator),
            )
            for view in given.values
        ]
        num_bytes = _written_bytes(folder / f"tail-{k}-{drawn}", given, topks) / (NUM_SAMPLES * NUM_VIEWS)
        of_one, of_mean = _errors(given, topks)
        how = f"{drawn} of the tail drawn" if drawn else "lumped"
        print(
            f"k = {k}, {how}: {num_bytes:.1f} bytes a view; KD's gradient at T = {TEMPERATURE:g}, untrained student, "
            f"is off by {of_one:.3f} of its length in one view, {of_mean:.3f} in the mean over all (L2)"
        )
        if (k, drawn) == (10, 8):
            figures = {"bytes_k10_m8": num_bytes, "kd_error_k10_m8": of_one}
    return figures


def _written_bytes(root: Path, given: Logits, topks: list[TopK]) -> int:
    world = World(sizes=(NUM_SAMPLES,), num_classes=NUM_CLASSES, k=topks[0].k)
    world = dataclasses.replace(world, tail_samples=topks[0].tail_samples)
    writer = StoreWriter.open(str(root), world.identity, [Shard(name="train-0000", num_samples=NUM_SAMPLES)], {})
    (part,) = writer.missing_parts(NUM_VIEWS)
    keys = [f"n{row:08d}_{row:05d}" for row in range(NUM_SAMPLES)]
    writer.write_part(part, keys, given.labels.numpy(), topks)
    writer.seal()
    return sum(map(len, tree(root).values()))


def _errors(given: Logits, topks: list[TopK]) -> tuple[float, float]:
    """The root mean square over views, and the error of the mean gradient, each over the same of the exact ones."""
    squares, means = torch.zeros(2), torch.zeros(2, NUM_CLASSES)
    for view, topk in zip(given.values, topks, strict=True):
        exact, estimate = (_gradient(teacher, given.labels) for teacher in (view, topk))
        for row, gradient in enumerate((estimate - exact, exact)):
            squares[row] += gradient.square().sum()
            means[row] += gradient.sum(dim=0)
    lengths = means.norm(dim=1)
    return float((squares[0] / squares[1]).sqrt()), float(lengths[0] / lengths[1])


def _gradient(teacher: TopK | torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    student = torch.zeros(len(labels), NUM_CLASSES, requires_grad=True)
    settings = {"alpha": 0.0, "temperature": TEMPERATURE, "approximate": True}
    kd_loss(student, teacher, labels, **settings, reduction="none").sum().backward()
    assert student.grad is not None
    return student.grad
