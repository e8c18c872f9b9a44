"""PLD from a top-50, forward and backward, beside what it replaces. Ends with one line of JSON.

    make bench-losses

`x_`: how many times faster than the plain sort + logcumsumexp formulation. `cost_`: times the cost of cross entropy and
of KD with cross entropy, as people write them. `extra_memory`: bytes allocated at the peak of forward and backward, the
gradient included, over those of the student's logits; the larger of both sizes. Not measured: half types, GPUs.
"""

import json
import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from pld.losses import pld_loss
from pld.signals import TopK
from tests.benchmarks.memory import peak_bytes
from tests.benchmarks.side_by_side import Ratio, machine, paired_seconds, ratio

BATCH, K, ROUNDS = 256, 50, 20


def reference(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """PLD as it is usually written: sort the teacher, put the label first, one reversed logcumsumexp over C."""
    order = teacher.argsort(dim=1, descending=True)
    others = order[order != labels[:, None]].view(len(order), -1)
    order = torch.cat([labels[:, None], others], dim=1)
    weights = teacher.softmax(dim=1).gather(1, order)
    scores = student.gather(1, order)
    denominators = scores.flip(1).logcumsumexp(dim=1).flip(1)
    return (weights * (denominators - scores)).sum(dim=1).mean()


def kd_and_ce(student: Tensor, teacher: Tensor, labels: Tensor, alpha: float = 0.1, temperature: float = 2.0) -> Tensor:
    """KD as its users write it."""
    kl = F.kl_div(F.log_softmax(student / temperature, 1), F.softmax(teacher / temperature, 1), reduction="batchmean")
    return alpha * F.cross_entropy(student, labels) + (1 - alpha) * temperature**2 * kl


def problem(num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """A student, a teacher with most of its mass in the top 50, and labels of which two in three are its top."""
    generator = torch.Generator().manual_seed(num_classes)
    student = torch.randn(BATCH, num_classes, generator=generator) * 2
    teacher = torch.randn(BATCH, num_classes, generator=generator) * 2
    teacher.scatter_add_(1, torch.randint(num_classes, (BATCH, 20), generator=generator), torch.full((BATCH, 20), 6.0))
    labels = torch.where(torch.rand(BATCH, generator=generator) < 2 / 3, teacher.argmax(1),
                         torch.randint(num_classes, (BATCH,), generator=generator))  # fmt: skip
    return student, teacher, labels


def steps(num_classes: int) -> dict[str, Callable[[], object]]:
    """Each loss as a call that runs it forward and backward."""
    student, teacher, labels = problem(num_classes)
    student.requires_grad_()
    topk = TopK.from_logits(teacher, labels, K)

    def step(loss: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(loss(), student)

    return {
        "PLD": step(lambda: pld_loss(student, topk, labels)),
        "cross entropy": step(lambda: F.cross_entropy(student, labels)),
        "KD + cross entropy": step(lambda: kd_and_ce(student, teacher, labels)),
        "sort + logcumsumexp": step(lambda: reference(student, teacher, labels)),
    }


def main() -> None:
    """Measure and print."""
    print(f"{machine()}; N = {BATCH}, k = {K}, {ROUNDS} paired rounds; median (quartiles) of the rounds' ratios\n")
    ratios: dict[str, Ratio] = {}
    memory = []
    for num_classes in (1000, 21841):
        functions = steps(num_classes)
        seconds = paired_seconds(functions, rounds=ROUNDS)
        print(f"C = {num_classes}")
        for name, each in seconds.items():
            relative = "" if name == "PLD" else f"   PLD takes {ratio(seconds['PLD'], each)} of it"
            print(f"  {name:22s}{1e3 * statistics.median(each):9.3f} ms{relative}")
        pld = functions["PLD"]
        memory.append(peak_bytes(pld) / (BATCH * num_classes * 4))
        print(f"  memory at the peak: {memory[-1]:.2f} times the student's logits\n")
        ratios[f"x_reference_c{num_classes}"] = ratio(seconds["sort + logcumsumexp"], seconds["PLD"])
        ratios[f"cost_ce_c{num_classes}"] = ratio(seconds["PLD"], seconds["cross entropy"])
        ratios[f"cost_kd_c{num_classes}"] = ratio(seconds["PLD"], seconds["KD + cross entropy"])
    medians = {name: round(value.median, 3) for name, value in ratios.items()}
    print(json.dumps({**medians, "extra_memory": round(max(memory), 3)}))


if __name__ == "__main__":
    main()
