"""The figures of an evaluation against a twin in float64, written sample by sample."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from pld.evaluation.figures import batch_sums, num_samples, to_figures
from pld.signals import TopK


def twin(logits, labels, teacher):
    """Top-1, top-5, NLL, ECE, agreement and KL to a dense teacher, from their definitions."""
    num = len(labels)
    sums = dict.fromkeys(("top1", "top5", "nll", "agreement", "kl"), 0.0)
    bins = [[0.0, 0.0] for _ in range(15)]
    for z, label, t in zip(logits.double(), labels.tolist(), teacher.double(), strict=True):
        log_p, log_q = z.log_softmax(0), t.log_softmax(0)
        order = z.argsort(descending=True).tolist()
        sums["top1"] += 100 * (order[0] == label) / num
        sums["top5"] += 100 * (label in order[:5]) / num
        sums["nll"] -= float(log_p[label]) / num
        sums["agreement"] += 100 * (order[0] == int(t.argmax())) / num
        sums["kl"] += float((log_q.exp() * (log_q - log_p)).sum()) / num
        confidence = float(log_p.max().exp())
        bins[min(14, math.floor(15 * confidence))][0] += confidence / num
        bins[min(14, math.floor(15 * confidence))][1] += (order[0] == label) / num
    return {**sums, "ece": 100 * sum(abs(a - b) for a, b in bins)}


@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(2, 9), st.floats(0.1, 6.0), st.integers(0, 30))
def test_the_figures_are_the_twins_in_any_batches(seed, num, num_classes, spread, cut):
    rng = torch.Generator().manual_seed(seed)
    logits, teacher = (spread * torch.randn(num, num_classes, generator=rng) for _ in range(2))
    labels = torch.randint(num_classes, (num,), generator=rng)
    places = 15 * logits.double().softmax(1).amax(1)
    assume(bool((places - places.round()).abs().min() > 1e-4))  # float32 may round to another bin
    cut = min(cut, num)
    sums = torch.zeros_like(batch_sums(logits, labels))
    for rows in (slice(0, cut), slice(cut, num)):
        if len(labels[rows]):
            stored = TopK.from_logits(teacher[rows], labels[rows], num_classes)
            sums += batch_sums(logits[rows], labels[rows], stored)
    assert num_samples(sums) == num
    assert to_figures(sums, has_teacher=True) == pytest.approx(twin(logits, labels, teacher), rel=1e-4, abs=1e-4)


def test_without_a_teacher_there_are_no_such_figures():
    sums = batch_sums(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))
    assert set(figures := to_figures(sums, has_teacher=False)) == {"top1", "top5", "nll", "ece"}
    assert (figures["top1"], figures["top5"]) == (50.0, 100.0)
