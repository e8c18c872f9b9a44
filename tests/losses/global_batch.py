"""DIST under DDP, for torchrun: python -m tests.losses.global_batch OUT writes the losses and gradients.

The processes deal the samples out between them. For the columns of the global and of the local batch, the first process
writes the mean of their losses and the gradient that DDP gives all of them.
"""

import gc
import os
import sys

import safetensors.torch
import torch
import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pld.losses import dist_loss

SAMPLES, INPUTS, CLASSES = 12, 5, 11
SETTINGS = {"alpha": 0.5, "beta": 1.5, "gamma": 3.0, "temperature": 2.0}


def problem() -> tuple[nn.Linear, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A student, and a batch's inputs, teacher's logits and labels; the same in every process."""
    generator = torch.Generator().manual_seed(0)
    student = nn.Linear(INPUTS, CLASSES)
    with torch.no_grad():
        student.weight.normal_(generator=generator)
        student.bias.normal_(generator=generator)
    inputs, teacher = (
        torch.randn(SAMPLES, INPUTS, generator=generator),
        torch.randn(SAMPLES, CLASSES, generator=generator) * 2,
    )
    return student, inputs, teacher, torch.randint(CLASSES, (SAMPLES,), generator=generator)


def measure(*, across: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of the processes' losses, and the weights' gradient as DDP leaves it."""
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    student, *batch = problem()
    inputs, teacher, labels = (values[rank::world] for values in batch)
    model = DistributedDataParallel(student)
    loss = dist_loss(model(inputs), teacher, labels, global_batch=across, **SETTINGS)
    loss.backward()
    mean = loss.detach() / world
    torch.distributed.all_reduce(mean)
    return mean, student.weight.grad


def main(out: str) -> None:
    torch.distributed.init_process_group("gloo")
    assert torch.distributed.get_world_size() == int(os.environ["WORLD_SIZE"]) == 2
    found = {}
    for name, across in (("global", True), ("local", False)):
        found[f"{name}.loss"], found[f"{name}.grad"] = measure(across=across)
    if torch.distributed.get_rank() == 0:
        safetensors.torch.save_file(found, out)
    # Neither process may leave while the other, or a model of its own, still holds the group: gloo aborts.
    gc.collect()
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
