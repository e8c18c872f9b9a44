"""What is drawn of a tail: how many classes, how often each, and by what."""

import dataclasses
import math

import jaxtyping
import pytest
import torch

from pld.errors import SignalError
from pld.signals import TailSample, TopK, tail_uniforms


def uniforms(num, seed=0):
    return torch.rand(num, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inclusion_of(sample, logprobs):
    """The probability with which each class of these log-probabilities was to be drawn."""
    of_all = dataclasses.replace(sample, classes=torch.zeros_like(logprobs).long(), logprobs=logprobs)
    return of_all.log_inclusion().exp()


@pytest.mark.parametrize("spread", [0.0, 0.1, 3.0, 100.0, 1000.0])
@pytest.mark.parametrize(("classes", "num"), [(2, 1), (6, 2), (12, 11), (12, 10), (1000, 8), (1000, 990)])
def test_each_row_has_so_many_classes_of_its_tail(classes, num, spread):
    logits = spread * torch.randn(64, classes, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    tail = logits.log_softmax(1).index_fill(1, torch.tensor([classes // 2]), -torch.inf)
    points = uniforms(64)
    points[:4], points[4:8] = 0.0, 1 - 2.0**-53
    sample = TailSample.draw(tail, num, 4.0, points)
    assert sample.classes.shape == (64, num)
    lowest = tail.amax(1, keepdim=True) - 600 * 4.0
    torch.testing.assert_close(sample.logprobs, tail.gather(1, sample.classes).maximum(lowest), rtol=1e-15, atol=0)
    assert bool((sample.classes.diff(dim=1) > 0).all())
    assert bool((sample.classes != classes // 2).all())
    if spread == 1000:  # exponentials of such logits are 0
        return
    torch.testing.assert_close(inclusion_of(sample, tail).sum(1), torch.full((64,), float(num), dtype=torch.float64))


def test_how_often_classes_are_drawn():
    """20,000 evenly spaced u: each class's share of them is its probability, but for the ends of its interval."""
    logprobs = (5 * torch.randn(1, 30, generator=torch.Generator().manual_seed(2), dtype=torch.float64)).log_softmax(1)
    points = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    sample = TailSample.draw(logprobs.expand(20000, -1), 5, 2.0, points)
    wanted = inclusion_of(sample, logprobs.expand(20000, -1))[0]
    share = torch.bincount(sample.classes.flatten(), minlength=30) / 20000
    assert float((share - wanted).abs().max()) < 2e-4
    assert float(wanted.max()) == 1.0  # one that is certain is among them
    assert float(wanted.min()) < 0.1


@pytest.mark.parametrize("temperatures", [(1.0,), (1.0, 4.0)])
@pytest.mark.parametrize("num", [1, 2, 3, 4])
def test_gaps_deeper_than_exponentials_reach_are_valid(num, temperatures):
    logits = torch.tensor([[0.0, -5000.0, -9000.0, -9100.0, -30000.0]]).repeat(200, 1)
    topk = TopK.from_logits(logits, None, 1, temperatures, tail_samples=num, uniforms=uniforms(200))
    topk.validate(5)
    if num == 2:  # one of three, all as deep as exponentials reach
        assert set(topk.tail_sample.classes[:, 1].tolist()) == {2, 3, 4}
        wanted = torch.tensor([1.0, 1 / 3]).expand(200, -1)
        torch.testing.assert_close(topk.tail_sample.log_inclusion().exp(), wanted, rtol=2e-3, atol=0)


def test_a_row_does_not_depend_on_its_batch():
    logprobs = torch.randn(50, 100, generator=torch.Generator().manual_seed(3)).log_softmax(1)
    whole = TailSample.draw(logprobs, 6, 4.0, uniforms(50))
    for row in (0, 17, 49):
        alone = TailSample.draw(logprobs[row : row + 1], 6, 4.0, uniforms(50)[row : row + 1])
        for name in ("classes", "logprobs", "threshold"):
            assert torch.equal(getattr(whole, name)[row : row + 1], getattr(alone, name))


def test_uniforms_follow_from_seed_key_and_view():
    keys = [f"n{index}" for index in range(4000)]
    found = tail_uniforms(keys, view=3, seed=7)
    assert torch.equal(tail_uniforms(keys[1:3], view=3, seed=7), found[1:3])
    assert found[:2].tolist() == GOLDEN
    for other in (tail_uniforms(keys, view=4, seed=7), tail_uniforms(keys, view=3, seed=8)):
        assert abs(float(torch.corrcoef(torch.stack([found, other]))[0, 1])) < 4 / math.sqrt(4000)
    assert 0 <= float(found.min()) < float(found.max()) < 1
    assert abs(float(found.mean()) - 0.5) < 4 / math.sqrt(12 * 4000)


GOLDEN = [0.7562736268328136, 0.09800427060027017]


@pytest.mark.parametrize(
    ("k", "num", "advice"),
    [
        (3, 7, "wanted 1 to 6, .*k = 10 keeps every class"),
        (3, -1, "wanted 1 to 6, "),
        (9, 1, "wanted 0, .* choose a smaller k"),
        (10, 1, "wanted 0, .* leave it out"),
    ],
)
def test_more_than_the_tail_has(k, num, advice):
    logits, labels = torch.randn(4, 10), torch.arange(4)
    with pytest.raises(SignalError, match=rf"tail_samples = {num}: {advice}"):
        TopK.from_logits(logits, labels, k, tail_samples=num)


def test_a_topk_with_a_sampled_tail_is_valid():
    logits = 5 * torch.randn(64, 20, generator=torch.Generator().manual_seed(4))
    for labels in (torch.arange(64) % 20, None):
        topk = TopK.from_logits(logits, labels, 4, (0.5, 1.0, 4.0), tail_samples=6, uniforms=uniforms(64))
        topk.validate(20)
        assert topk.tail_samples == 6
        assert topk.tail_sample.temperature == 4.0
        exact = logits.log_softmax(1).gather(1, topk.tail_sample.classes)
        torch.testing.assert_close(topk.tail_sample.logprobs, exact)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("classes", lambda c: c + 20, "tail classes outside 0..C-1, first in row 0"),
        ("classes", lambda c: c.flip(1), "tail classes that do not ascend"),
        ("classes", lambda c: torch.tensor([[0, 1, 2], [0, 1, 2]]), "among the top k or the label"),
        ("logprobs", lambda p: p * torch.nan, "tail log-probabilities that are not finite"),
        ("logprobs", lambda p: p + 9, "a tail class more probable than the last of the top k"),
        ("threshold", lambda t: t * torch.nan, "tail thresholds that are not finite"),
        ("threshold", lambda t: t + 500, "a tail class that could not have been drawn"),
    ],
)
def test_validate_names_what_is_wrong(name, change, message):
    logits = torch.arange(20.0).flip(0).repeat(2, 1)
    topk = TopK.from_logits(logits, torch.tensor([0, 19]), 2, (1.0, 4.0), tail_samples=3)
    bad = dataclasses.replace(topk.tail_sample, **{name: change(getattr(topk.tail_sample, name))})
    with pytest.raises(SignalError, match=message):
        dataclasses.replace(topk, tail_sample=bad).validate(20)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("classes", lambda c: c.float(), r"TailSample.classes: found torch.float32 .*, wanted int64 of \[2, 3\]"),
        ("classes", lambda c: c[0], r"TailSample.classes: found .* of shape \[3\], wanted int64 of \[2, 3\]"),
        ("logprobs", lambda p: p[:, :1], r"TailSample.logprobs: found .* of shape \[2, 1\], wanted .* of \[2, 3\]"),
        ("threshold", lambda t: t[:1], r"TailSample.threshold: found .* of shape \[1\], wanted .* of \[2\]"),
        ("temperature", lambda t: math.inf, "TailSample.temperature: found inf, wanted a finite number of at least"),
    ],
)
def test_parts_that_do_not_fit_each_other(name, change, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users have our checks alone
    topk = TopK.from_logits(torch.arange(20.0).flip(0).repeat(2, 1), None, 2, (1.0, 4.0), tail_samples=3)
    bad = dataclasses.replace(topk.tail_sample, **{name: change(getattr(topk.tail_sample, name))})
    with pytest.raises(SignalError, match=message):
        dataclasses.replace(topk, tail_sample=bad).validate(20)
