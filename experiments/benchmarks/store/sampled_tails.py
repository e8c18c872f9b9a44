"""What a sampled tail costs and is worth at T = 2, beside larger top-ks whose tail is lumped."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from experiments.benchmarks.store.logits import NUM_CLASSES, NUM_SAMPLES, NUM_VIEWS, TEMPERATURES, Logits
from pld.losses import kd_loss
from pld.signals import TopK
from pld.store import Shard, StoreWriter
from pld.store.format.tail_error import tail_errors
from tests.store.world import World, tree

TEMPERATURE = 2.0
_DRAWS, _AT_ONCE = 20_000, 2_000


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
    sure = given.values[0].softmax(dim=1).amax(dim=1).argsort()
    for row in (sure[len(sure) // 20], sure[len(sure) // 2]):
        for drawn in (4, 8, 16):
            _draw_often(given.values[0, row].double(), given.labels[row], drawn)
    return figures


def _draw_often(teacher: torch.Tensor, label: torch.Tensor, drawn: int) -> None:
    """Print how far the mean over many draws of one view's tail is from the exact gradient, and the stated error."""
    generator, temperatures = torch.Generator().manual_seed(drawn), (1.0, 2.0, 4.0)
    exact = {t: _gradient(teacher[None], label[None], t)[0] for t in temperatures}
    sums = {t: torch.zeros(2, NUM_CLASSES, dtype=torch.float64) for t in temperatures}
    stated = torch.zeros(len(temperatures), dtype=torch.float64)
    for _ in range(_DRAWS // _AT_ONCE):
        rows, labels = teacher.expand(_AT_ONCE, -1), label.expand(_AT_ONCE)
        uniforms = torch.rand(_AT_ONCE, dtype=torch.float64, generator=generator)
        topk = TopK.from_logits(rows, labels, 10, temperatures, tail_samples=drawn, uniforms=uniforms)
        stated += tail_errors(topk, NUM_CLASSES)[0].sum(dim=0)
        for t, found in sums.items():
            off = _gradient(topk, labels, t) - exact[t]
            found += torch.stack([off.sum(dim=0), off.square().sum(dim=0)])
    said = []
    for (t, (off, squares)), error in zip(sums.items(), stated.tolist(), strict=True):
        errors = (squares / _DRAWS - (off / _DRAWS).square()).clamp(min=0).div(_DRAWS).sqrt()
        beyond = int(((off / _DRAWS).abs() > 4 * errors + 1e-12).sum())
        distance = float((off / _DRAWS).norm() / errors.norm())
        # KD's gradient is T times that of the error stated, which is of q - p.
        ratio = error * t**2 / float(squares.sum())
        said.append(f"T = {t:g}: {distance:.2f}, {beyond} classes, {ratio:.3f}")
    sure = float(teacher.softmax(dim=0).max())
    print(
        f"k = 10, {drawn} drawn {_DRAWS:,} times from a view of confidence {sure:.2f}: distance of the mean gradient "
        f"from the exact one in standard errors, classes beyond 4 of theirs, stated over measured squared error: "
        f"{'; '.join(said)}"
    )


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
        exact, estimate = (_gradient(teacher, given.labels, TEMPERATURE) for teacher in (view, topk))
        for row, gradient in enumerate((estimate - exact, exact)):
            squares[row] += gradient.square().sum()
            means[row] += gradient.sum(dim=0)
    lengths = means.norm(dim=1)
    return float((squares[0] / squares[1]).sqrt()), float(lengths[0] / lengths[1])


def _gradient(teacher: TopK | torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """KD's of each sample, of a student that gives all classes alike."""
    dtype = teacher.logprobs.dtype if isinstance(teacher, TopK) else teacher.dtype
    student = torch.zeros(len(labels), NUM_CLASSES, dtype=dtype, requires_grad=True)
    settings = {"alpha": 0.0, "temperature": temperature, "approximate": True}
    kd_loss(student, teacher, labels, **settings, reduction="none").sum().backward()
    assert student.grad is not None
    return student.grad
