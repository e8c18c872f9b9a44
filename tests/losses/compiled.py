"""Every loss under `torch.compile`, in one graph: python -m tests.losses.compiled BACKEND.

A command of its own, because the checks of shapes that tests run under cannot be compiled.
"""

import sys

import torch

from pld.losses import PLDLoss, build_loss, loss_names
from pld.signals import MixedLabels, TopK

# Of the losses, and of PLD.
KINDS = (("top-k", "dense", "mixed"), ("top-k", "dense", "mixed", "unlabelled", "positions"))


def check(name: str, kind: str, backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(8, 50, generator=generator) for _ in "ab")
    student.requires_grad_()
    labels = None if kind == "unlabelled" else torch.randint(50, (8,), generator=generator)
    signal = teacher if kind in ("dense", "positions") else TopK.from_logits(teacher, labels, 5, (1.0, 2.0, 4.0))
    loss, given = build_loss(name, approximate=True), labels
    if kind == "mixed":
        others, share = torch.randint(50, (8,), generator=generator), 0.5 + torch.rand(8, generator=generator) / 2
        given = MixedLabels(labels=labels, others=others, share=share)

    def step(logits: torch.Tensor) -> torch.Tensor:
        return loss(logits, signal, given)

    if kind == "positions":  # the batch as 2 images of 4 positions, one of which is left out
        module = PLDLoss(class_dim=1, ignore_index=-100)
        at = labels.index_fill(0, torch.tensor([3]), -100).view(2, 4)

        def step(logits: torch.Tensor) -> torch.Tensor:
            return module(*(side.unflatten(0, (2, 4)).movedim(-1, 1) for side in (logits, teacher)), at)

    torch._dynamo.reset()
    compiled = torch.compile(step, backend=backend, fullgraph=True)
    ours, wanted = (torch.autograd.grad(function(student), student)[0] for function in (compiled, step))
    torch.testing.assert_close(compiled(student), step(student))
    torch.testing.assert_close(ours, wanted, atol=1e-7, rtol=1e-5)


if __name__ == "__main__":
    for name in loss_names():
        for kind in KINDS[name == "pld"]:
            check(name, kind, sys.argv[1])
            print(name, kind)
