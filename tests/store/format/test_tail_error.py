"""The error that a signal with a sampled tail states of itself, against that of many draws."""

import pytest
import torch

from pld.losses import kd_loss
from pld.signals import TopK
from pld.store.format.tail_error import tail_errors


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("num", [4, 16])
def test_the_stated_error_is_the_measured_one(num, labelled):
    generator = torch.Generator().manual_seed(0)
    rows, classes, temperatures = 6000, 60, (1.0, 2.0, 4.0)
    logits = 2 * torch.randn(20, classes, generator=generator, dtype=torch.float64)
    logits = logits.repeat_interleave(rows // 20, dim=0)
    labels = torch.arange(rows) % classes if labelled else None
    points = torch.rand(rows, generator=generator, dtype=torch.float64)
    topk = TopK.from_logits(logits, labels, 5, temperatures, tail_samples=num, uniforms=points)
    errors, lengths = tail_errors(topk, classes)
    for column, temperature in enumerate(temperatures):
        student = torch.zeros(rows, classes, dtype=torch.float64, requires_grad=True)
        settings = {"alpha": 0.0, "temperature": temperature, "reduction": "none"}
        kd_loss(student, topk, labels, **settings).sum().backward()
        exact = (1 / classes - (logits / temperature).softmax(1)) * temperature
        measured = (student.grad - exact).square().sum() / exact.square().sum()
        stated = errors[:, column].sum() / lengths[:, column].sum()
        assert stated.sqrt().item() == pytest.approx(measured.sqrt().item(), rel=0.1)
