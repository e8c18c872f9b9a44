"""DIST's columns over the batches of two processes are those of one process with the whole batch."""

import safetensors.torch
import torch

from pld.losses import dist_loss
from tests.losses.global_batch import SETTINGS, problem
from tests.processes import torchrun


def test_two_processes_with_half_a_batch_each_are_one_with_the_whole(tmp_path):
    torchrun(2, ["-m", "tests.losses.global_batch", tmp_path / "found"], cwd=tmp_path)
    found = safetensors.torch.load_file(tmp_path / "found")
    student, inputs, teacher, labels = problem()
    loss = dist_loss(student(inputs), teacher, labels, **SETTINGS)
    loss.backward()
    torch.testing.assert_close(found["global.loss"], loss.detach(), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found["global.grad"], student.weight.grad, atol=1e-6, rtol=1e-5)
    # What each process would make of its own half is something else: the comparison can fail.
    assert abs(found["local.loss"].item() - loss.item()) > 1e-2
    assert float((found["local.grad"] - student.weight.grad).abs().max()) > 1e-2


def test_one_process_alone_is_its_own_global_batch():
    student, inputs, teacher, labels = problem()
    alone = dist_loss(student(inputs), teacher, labels, global_batch=True, **SETTINGS)
    assert torch.equal(alone, dist_loss(student(inputs), teacher, labels, **SETTINGS))
