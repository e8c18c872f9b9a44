"""What `bench_gpu` checks before it times: every loss on the device against itself in float64 on the CPU."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from pld.losses import NamedLoss, build_loss, loss_names
from pld.signals import TopK

TYPES = (torch.float32, torch.bfloat16, torch.float16)
# How far the gradient's own type may move it, relative to its row's largest: losses add up terms already rounded,
# and the Triton kernel's gradient is rounded (cut off, where it is interpreted) before it is scaled.
_ROUNDING = {torch.float32: 0.0, torch.bfloat16: 2**-6, torch.float16: 2**-10}

Check = tuple[str, Callable[[], None]]


@dataclasses.dataclass(frozen=True)
class Batch:
    """One batch on the CPU, the student in float64 with values that its own type holds."""

    student: Tensor
    teacher: TopK | Tensor
    labels: Tensor
    dtype: torch.dtype


def variants() -> dict[str, tuple[NamedLoss, NamedLoss]]:
    """Every loss and the one that it is held to, by name; the Triton kernel is held to the torch backend."""
    losses = {name: build_loss(name, approximate=True) for name in loss_names()}
    pairs = {name: (loss, loss) for name, loss in losses.items()}
    for tail in ("drop", "uniform"):
        torch_loss = build_loss("pld", tail=tail)
        pairs[f"pld, {tail} tail"] = (torch_loss, torch_loss)
        pairs[f"pld, {tail} tail, triton"] = (build_loss("pld", tail=tail, backend="triton"), torch_loss)
    return pairs


def make_batch(rows: int, classes: int, k: int | None, dtype: torch.dtype, spread: float = 3.0) -> Batch:
    """Random logits; the teacher is dense where k is None. A spread of 3000 makes logits of up to +-1e4."""
    generator = torch.Generator().manual_seed(rows + classes)
    student, teacher = (torch.randn(rows, classes, generator=generator) * spread for _ in "ab")
    labels = torch.randint(classes, (rows,), generator=generator)
    labels[::2] = teacher[::2].argmax(1)
    signal = teacher if k is None else TopK.from_logits(teacher, labels, k, (1.0, 2.0, 4.0))
    return Batch(student.clamp(-1e4, 1e4).to(dtype).double(), signal, labels, dtype)


def hold(
    loss: Callable[..., Tensor], exact: NamedLoss, batch: Batch, device: torch.device, *, autocast: bool = False
) -> None:
    """Raise AssertionError where the loss, or its gradient after a further operation, is off what float64 gives."""
    upstream = torch.linspace(0.5, 1.5, len(batch.labels), dtype=torch.float64)
    wide = batch.student.clone().requires_grad_()
    teacher = batch.teacher if isinstance(batch.teacher, TopK) else batch.teacher.double()
    wanted = exact(wide, teacher, batch.labels, reduction="none")
    (wanted_grad,) = torch.autograd.grad((wanted * upstream).sum(), wide)

    leaf = batch.student.to(device, batch.dtype).requires_grad_()
    signal = batch.teacher.to(device)
    labels = signal.labels if isinstance(signal, TopK) else batch.labels.to(device)
    context = torch.autocast(device.type, dtype=batch.dtype) if autocast else contextlib.nullcontext()
    with context:
        values = loss(leaf, signal, labels, reduction="none")
    assert values.dtype == torch.float32, f"the loss is {values.dtype}, wanted float32"
    (grad,) = torch.autograd.grad((values * upstream.to(device, torch.float32)).sum(), leaf)
    scale = wanted.detach().abs().clamp(min=1)
    _near("loss", values.detach(), wanted.detach(), 1e-5 * scale)
    rounding = _ROUNDING[batch.dtype] * wanted_grad.abs().amax(dim=1, keepdim=True)
    _near("gradient", grad, wanted_grad, 1e-5 * scale[:, None] + rounding)


def checks(device: torch.device, compiler: str, *, rows: int = 41, classes: int = 1000, k: int = 50) -> Iterator[Check]:
    """Every check's name, and a call that raises where it does not hold."""

    def held(loss: Any, exact: NamedLoss, batch: Batch, **settings: bool) -> Callable[[], None]:
        def run() -> None:
            torch.compiler.reset()
            hold(loss, exact, batch, device, **settings)

        return run

    for name, (loss, exact) in variants().items():
        for dtype in TYPES:
            for signal_k in (k, None):
                batch = make_batch(rows, classes, signal_k, dtype)
                yield f"{name}, {'dense' if signal_k is None else f'k={k}'}, {dtype}", held(loss, exact, batch)
            if dtype != torch.float32:
                batch = make_batch(rows, classes, k, dtype)
                yield f"{name}, autocast to {dtype}", held(loss, exact, batch, autocast=True)
        large = make_batch(3, 21 * classes + 1, k, torch.float32)
        yield f"{name}, C={21 * classes + 1}", held(loss, exact, large)
        if name.startswith("pld"):
            wide = make_batch(rows, classes, k, torch.float32, spread=3000.0)
            yield f"{name}, logits of +-1e4", held(loss, exact, wide)
        # The others' graphs are whole too; what the compiler makes of them is looked at for PLD alone.
        how = compiler if name.startswith("pld") else "aot_eager"
        compiled = torch.compile(loss.__call__, fullgraph=True, dynamic=False, backend=how)
        batch = make_batch(rows, classes, k, torch.float32)
        yield f"{name}, compiled by {how}, no graph break", held(compiled, exact, batch)


def _near(what: str, found: Tensor, wanted: Tensor, tolerance: Tensor) -> None:
    off = (found.cpu().double() - wanted).abs()
    assert bool((off <= tolerance).all()), f"{what} off by {float((off / tolerance).max()):.3g} times the tolerance"
