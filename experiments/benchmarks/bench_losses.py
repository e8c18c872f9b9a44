"""PLD from a top-50, forward and backward, beside what it replaces. Ends with one line of JSON.

    make bench-losses

`x_`: how many times faster than the plain sort + logcumsumexp formulation. `cost_`: times the cost of cross entropy and
of KD with cross entropy, as people write them. `extra_memory`: bytes allocated at the peak of forward and backward, the
gradient included, over those of the student's logits; the larger of both sizes. Not measured: half types, GPUs.
"""

import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.benchmarks.loss_steps import Size, kd_and_ce, problem, reference
from experiments.benchmarks.timing import CPU, Step, extra_bytes, machine, paired_seconds, print_figures, ratio
from pld.losses import pld_loss
from pld.signals import MixedLabels

ROUNDS = 20
SIZES = [Size(256, classes, 50, torch.float32) for classes in (1000, 21841)]


def steps(size: Size) -> dict[str, Step]:
    """Each loss as a call that runs it forward and backward."""
    student, teacher, topk = problem(size, CPU)
    student.requires_grad_()
    share = torch.full((size.rows,), 0.75)
    mixed = MixedLabels(labels=topk.labels, others=topk.labels.flip(0), share=share)

    def step(loss: Callable[[], Tensor]) -> Step:
        return lambda: torch.autograd.grad(loss(), student)

    return {
        "PLD": step(lambda: pld_loss(student, topk, topk.labels)),
        "PLD, mixed labels": step(lambda: pld_loss(student, topk, mixed)),
        "cross entropy": step(lambda: F.cross_entropy(student, topk.labels)),
        "KD + cross entropy": step(lambda: kd_and_ce(student, teacher, topk.labels)),
        "sort + logcumsumexp": step(lambda: reference(student, teacher, topk.labels)),
    }


def main() -> None:
    """Measure and print."""
    print(f"{machine(CPU)}; n = {ROUNDS} paired rounds, median (quartiles) of their ratios")
    figures: dict[str, float] = {}
    memory = []
    for size in SIZES:
        each = steps(size)
        seconds = paired_seconds(each, CPU, rounds=ROUNDS, least_seconds=0.02)
        print(f"\n{size}")
        for name, taken in seconds.items():
            relative = "" if name == "PLD" else f"   PLD takes {ratio(seconds['PLD'], taken)} of it"
            print(f"  {name:22s}{1e3 * statistics.median(taken):9.3f} ms{relative}")
        memory.append(extra_bytes(each["PLD"], CPU) / (size.rows * size.classes * size.dtype.itemsize))
        print(f"  memory at the peak of PLD: {memory[-1]:.2f} times the student's logits")
        figures[f"x_reference_c{size.classes}"] = ratio(seconds["sort + logcumsumexp"], seconds["PLD"]).median
        figures[f"cost_ce_c{size.classes}"] = ratio(seconds["PLD"], seconds["cross entropy"]).median
        figures[f"cost_kd_c{size.classes}"] = ratio(seconds["PLD"], seconds["KD + cross entropy"]).median
    print_figures({**figures, "extra_memory": max(memory)})


if __name__ == "__main__":
    main()
