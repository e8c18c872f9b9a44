"""Every loss under `torch.compile`, in one graph: python -m tests.losses.compiled BACKEND.

A command of its own, because the checks of shapes that tests run under cannot be compiled.
"""

import sys

import torch

from pld.losses import build_loss, loss_names
from pld.signals import TopK


def check(name: str, dense: bool, backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(8, 50, generator=generator) for _ in "ab")
    student.requires_grad_()
    labels = torch.randint(50, (8,), generator=generator)
    signal = teacher if dense else TopK.from_logits(teacher, labels, 5, (1.0, 2.0, 4.0))
    loss = build_loss(name, approximate=True)

    def step(logits: torch.Tensor) -> torch.Tensor:
        return loss(logits, signal, labels)

    torch._dynamo.reset()
    compiled = torch.compile(step, backend=backend, fullgraph=True)
    ours, wanted = (torch.autograd.grad(function(student), student)[0] for function in (compiled, step))
    torch.testing.assert_close(compiled(student), step(student))
    torch.testing.assert_close(ours, wanted, atol=1e-7, rtol=1e-5)


if __name__ == "__main__":
    for name in loss_names():
        for dense in (False, True):
            check(name, dense, sys.argv[1])
            print(name, dense)
