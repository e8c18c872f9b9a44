"""An epoch's mean loss and its two parts."""

import pytest
import torch
from accelerate import Accelerator

from train_student.loop.learner import BatchLoss
from train_student.loop.meter import Meter

CPU = torch.device("cpu")


def losses(*pairs):
    tensors = [[None if value is None else torch.tensor(value) for value in pair] for pair in pairs]
    return [BatchLoss(total=total, of_labels=of_labels) for total, of_labels in tensors]


def test_parts_are_means_over_micro_batches_and_steps():
    meter = Meter(CPU)
    meter.add(losses((3.0, 1.0), (5.0, 2.0)))
    meter.add(losses((2.0, 0.5), (2.0, 0.5)))
    figures = Meter(CPU, **meter.state()).figures(Accelerator(cpu=True), 4)
    assert (figures["loss"], figures["loss/label"], figures["loss/teacher"]) == (3.0, 1.0, 2.0)


@pytest.mark.parametrize("old", [False, True])
def test_parts_that_are_not_known_of_all_steps_are_not_said(old):
    meter = Meter(CPU)
    meter.add(losses((3.0, 1.0 if old else None)))
    state = meter.state()
    if old:
        del state["label_losses"]
    meter = Meter(CPU, **state)
    meter.add(losses((3.0, 1.0)))
    figures = meter.figures(Accelerator(cpu=True), 4)
    assert figures["loss"] == 3.0
    assert "loss/label" not in figures
