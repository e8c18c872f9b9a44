"""What `bench_gpu` times: PLD three ways and what it is compared with, each forward and backward."""

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.benchmarks.timing import Step
from pld.losses import pld_loss
from pld.signals import TopK

CROSS_ENTROPY, FLOOR = "cross entropy", "device copy"


@dataclasses.dataclass(frozen=True)
class Size:
    """One problem: N rows of C classes, the teacher's k most probable ones."""

    rows: int
    classes: int
    k: int
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"N={self.rows} C={self.classes} k={self.k} {str(self.dtype).removeprefix('torch.')}"


def reference(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """PLD as it is usually written: sort the teacher, the label first, and one reversed logcumsumexp over C."""
    order = teacher.scatter(1, labels[:, None], torch.inf).argsort(dim=1, descending=True)
    weights = teacher.softmax(dim=1).gather(1, order)
    scores = student.float().gather(1, order)
    denominators = scores.flip(1).logcumsumexp(dim=1).flip(1)
    return (weights * (denominators - scores)).sum(dim=1).mean()


def kd_and_ce(student: Tensor, teacher: Tensor, labels: Tensor, alpha: float = 0.1, temperature: float = 2.0) -> Tensor:
    """KD as its users write it, in float32, as autocast would have it."""
    student = student.float()
    kl = F.kl_div(F.log_softmax(student / temperature, 1), F.softmax(teacher / temperature, 1), reduction="batchmean")
    return alpha * F.cross_entropy(student, labels) + (1 - alpha) * temperature**2 * kl


def problem(size: Size, device: torch.device) -> tuple[Tensor, Tensor, TopK]:
    """Student and teacher, and the teacher's top k: most of its mass is there, and two labels in three lead it."""
    generator = torch.Generator().manual_seed(size.classes)
    student, teacher = (torch.randn(size.rows, size.classes, generator=generator) * 2 for _ in "ab")
    sure = torch.randint(size.classes, (size.rows, 20), generator=generator)
    teacher.scatter_add_(1, sure, torch.full(sure.shape, 6.0))
    anywhere = torch.randint(size.classes, (size.rows,), generator=generator)
    labels = torch.where(torch.rand(size.rows, generator=generator) < 2 / 3, teacher.argmax(1), anywhere)
    topk = TopK.from_logits(teacher, labels, size.k)
    return student.to(device, size.dtype), teacher.to(device), topk.to(device)


def steps(size: Size, device: torch.device, compiler: str) -> dict[str, Step]:
    """Each contestant as a call that runs it forward and backward, and the copy that is the floor."""
    student, teacher, topk = problem(size, device)
    student.requires_grad_()
    labels = topk.labels
    copy_from, copy_to = student.detach(), torch.empty_like(student)

    def step(loss: Callable[[Tensor], Tensor]) -> Step:
        return lambda: torch.autograd.grad(loss(student), student)

    losses: dict[str, Callable[[Tensor], Tensor]] = {
        "PLD triton": lambda s: pld_loss(s, topk, labels, backend="triton"),
        "PLD torch": lambda s: pld_loss(s, topk, labels, backend="torch"),
        CROSS_ENTROPY: lambda s: F.cross_entropy(s.float(), labels),
        "KD + CE": lambda s: kd_and_ce(s, teacher, labels),
    }
    found: dict[str, Step] = {FLOOR: lambda: copy_to.copy_(copy_from)}
    for name, loss in losses.items():
        found[name] = step(loss)
        found[f"{name}, compiled"] = step(torch.compile(loss, fullgraph=True, dynamic=False, backend=compiler))
    return found | {"sort + logcumsumexp": step(lambda s: reference(s, teacher, labels))}
