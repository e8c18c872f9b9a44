"""Several teachers as one: the slow average, what must hold of it, and the certificate against the dense average."""

import dataclasses
import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pld.errors import SignalError
from pld.losses import gradient_error_bound, pld_loss
from pld.signals import TopK
from pld.store.format.identity import CodecIdentity
from pld.store.format.quantise import dequantise, quantise
from pld.store.read.averaging import average

TEMPERATURES = (0.5, 1.0, 2.0)
TEACHER = st.fixed_dictionaries(
    {
        "spread": st.sampled_from([0.1, 2.0, 6.0]),
        "own": st.sampled_from([0.0, 0.2, 1.0]),  # how far it is from what all have in common
        "ties": st.booleans(),
        "k": st.integers(1, 30),
        "grid": st.sampled_from([None, 1 / 64, 1 / 8]),
    }
)
CASES = st.fixed_dictionaries(
    {
        "num_classes": st.integers(2, 30),
        "teachers": st.lists(TEACHER, min_size=2, max_size=3),
        "student": st.sampled_from([0.1, 3.0, 12.0]),
        "seed": st.integers(0, 2**32),
    }
)


def signals_of(case, *, all_classes=False, labelled=True):
    """Each teacher's logits, float64, and its TopK, rounded as a store rounds or not."""
    num_classes, generator = case["num_classes"], torch.Generator().manual_seed(case["seed"])
    common = torch.randn(4, num_classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(num_classes, (4,), generator=generator) if labelled else None
    dense, topks = [], []
    for told in case["teachers"]:
        own = torch.randn(4, num_classes, generator=generator, dtype=torch.float64)
        logits = told["spread"] * (common + told["own"] * own)
        logits = logits.round() if told["ties"] else logits
        k = num_classes if all_classes else min(told["k"], num_classes)
        topk = TopK.from_logits(logits, labels, k, TEMPERATURES)
        dense.append(logits)
        topks.append(rounded(topk, told["grid"], num_classes) if told["grid"] else topk)
    return dense, topks


def rounded(topk, grid, num_classes):
    codec = CodecIdentity(k=topk.k, grid=grid, temperatures=topk.temperatures)
    labels = None if topk.labels is None else topk.labels.numpy()
    return dequantise(quantise(topk, codec, num_classes), labels, codec)


def dense_average(dense):
    """Logits of the average, all classes of each teacher known."""
    return torch.stack([logits.softmax(1) for logits in dense]).mean(0).log()


class Slow:
    """A row's average from the definition: dictionaries of probabilities, one class at a time."""

    def __init__(self, topks, row):
        self.label, self.num = int(topks[0].labels[row]), len(topks)
        last = [int(topk.classes[row, -1]) for topk in topks]
        self.orders = [topk.classes[row].tolist() for topk in topks]
        self.tails = [math.exp(topk.tail_at(1.0)[row]) for topk in topks]
        self.listed = [
            {self.label: math.exp(topk.label_logprob[row])}
            | dict(zip(topk.classes[row].tolist(), (math.exp(p) for p in topk.logprobs[row]), strict=True))
            for topk in topks
        ]
        # Of a class that it does not list a teacher has no more than of its last one, nor than in its tail.
        self.most = [min(listed[c], tail) for listed, c, tail in zip(self.listed, last, self.tails, strict=True)]

    def share(self, c):
        return sum(listed.get(c, 0.0) for listed in self.listed) / self.num

    def ranked(self):
        """By falling share; those of one share by the places in the teachers' lists, then the lower class first."""
        return sorted({c for listed in self.listed for c in listed}, key=lambda c: (-self.share(c), -self.ahead(c), c))

    def ahead(self, c):
        return sum(len(order) - order.index(c) for order in self.orders if c in order)

    def tail(self, k):
        return sum(self.tails) / self.num + sum(self.share(c) for c in self.ranked()[k:] if c != self.label)

    def interval(self, c, error):
        high = sum(listed.get(c, most) for listed, most in zip(self.listed, self.most, strict=True)) / self.num
        return self.share(c) * math.exp(-error), high * math.exp(error)

    def is_settled(self, c, error):
        """No other class, nor one that nobody lists, could be on c's other side; the label is always first."""
        low, high = self.interval(c, error)
        others = [self.interval(o, error) for o in (*self.ranked(), None) if o not in (c, self.label)]
        return c == self.label or all(other[1] < low or other[0] > high for other in others)


LEVEL = {"spread": 0.1, "own": 0.0, "ties": False, "k": 1, "grid": 1 / 8}


@given(CASES)
@example(
    {"num_classes": 4, "teachers": [LEVEL, LEVEL], "student": 0.1, "seed": 0}
)  # all classes on one step of the grid
def test_it_is_the_slow_average_and_valid(case):
    _, topks = signals_of(case)
    num_classes = case["num_classes"]
    got = average(topks, num_classes)
    got.validate(num_classes)
    assert got.k == min(topk.k for topk in topks)
    assert got.logprob_error == max(topk.logprob_error for topk in topks)
    assert got.temperatures == (TEMPERATURES if got.k == num_classes else (1.0,))
    for row in range(4):
        wanted = Slow(topks, row)
        classes, best = got.classes[row].tolist(), wanted.ranked()[: got.k]
        tail = 0.0 if got.k == num_classes else wanted.tail(got.k)
        # Not the same classes: of two that are as probable to the last bits either may be first.
        assert [*map(wanted.share, classes)] == pytest.approx([*map(wanted.share, best)], rel=1e-9, abs=0)
        assert got.logprobs[row].exp().tolist() == pytest.approx([*map(wanted.share, classes)], rel=1e-5, abs=1e-12)
        assert float(got.label_logprob[row].exp()) == pytest.approx(wanted.share(wanted.label), rel=1e-5, abs=1e-12)
        assert float(got.tail_at(1.0)[row].exp()) == pytest.approx(tail, rel=1e-5, abs=1e-12)
        settled = [wanted.is_settled(c, got.logprob_error + 1e-6) for c in classes]
        assert (~got.unsettled[row]).tolist() == settled


@given(CASES)
def test_of_all_classes_it_is_the_dense_average(case):
    dense, topks = signals_of(case, all_classes=True)
    got, wanted = average(topks, case["num_classes"]), dense_average(dense)
    assert bool((got.tail_logmass == -torch.inf).all())
    assert float((got.logprobs - wanted.gather(1, got.classes)).abs().max()) <= got.logprob_error + 1e-5
    label = wanted.gather(1, got.labels[:, None])[:, 0]
    assert float((got.label_logprob - label).abs().max()) <= got.logprob_error + 1e-5


@given(CASES)
def test_of_one_teacher_twice_it_is_that_teacher(case):
    for topk in signals_of(case)[1]:
        got = average([topk, topk], case["num_classes"])
        assert torch.equal(got.classes, topk.classes)
        torch.testing.assert_close(got.logprobs, topk.logprobs)
        torch.testing.assert_close(got.tail_at(1.0), topk.tail_at(1.0))


@given(CASES)
def test_without_labels_it_is_that_of_labels_that_all_teachers_list(case):
    _, topks = signals_of(case, labelled=False)
    first = topks[0].classes[:, 0]
    listed = all(bool((topk.classes == first[:, None]).any(1).all()) for topk in topks)
    got = average(topks, case["num_classes"])
    got.validate(case["num_classes"])
    assert got.labels is None
    assert got.label_logprob is None
    if listed:
        own = [(topk.classes == first[:, None]).nonzero()[:, 1] for topk in topks]
        logprobs = [topk.logprobs.gather(1, place[:, None])[:, 0] for topk, place in zip(topks, own, strict=True)]
        labelled = [
            dataclasses.replace(topk, labels=first, label_logprob=p) for topk, p in zip(topks, logprobs, strict=True)
        ]
        wanted = average(labelled, case["num_classes"])
        assert torch.equal(got.classes, wanted.classes)
        torch.testing.assert_close(got.logprobs, wanted.logprobs)


def gradient_distance(student, signals, labels, **settings):
    found = []
    for signal in signals:
        leaf = student.clone().requires_grad_()
        loss = pld_loss(leaf, signal, labels, approximate=True, reduction="none", **settings)
        found.append(torch.autograd.grad(loss.sum(), leaf)[0])
    return (found[0] - found[1]).abs().sum(1)


def student_of(case):
    generator = torch.Generator().manual_seed(case["seed"] + 1)
    return torch.randn(4, case["num_classes"], generator=generator, dtype=torch.float64) * case["student"]


@settings(max_examples=400)
@given(CASES, st.sampled_from(["drop", "uniform"]), st.booleans())
def test_the_certificate_holds_against_the_dense_average(case, tail, labelled):
    dense, topks = signals_of(case, labelled=labelled)
    got = average(topks, case["num_classes"])
    error = gradient_distance(student_of(case), (got, dense_average(dense)), got.labels, tail=tail)
    assert bool((error <= gradient_error_bound(got, tail=tail) + 1e-5).all())


@settings(max_examples=200)
@given(CASES, st.sampled_from(TEMPERATURES))
def test_of_all_classes_it_holds_at_every_temperature(case, temperature):
    dense, topks = signals_of(case, all_classes=True)
    got = average(topks, case["num_classes"])
    error = gradient_distance(student_of(case), (got, dense_average(dense)), got.labels, temperature=temperature)
    assert bool((error <= gradient_error_bound(got, temperature) + 1e-5).all())


def test_without_the_unsettled_ranks_the_certificate_would_not_hold():
    """Rounding turns two classes around whose averages are close, and the student has both before all others."""
    labels, student = torch.tensor([0]), torch.tensor([[0.0, 9.0, 9.0]], dtype=torch.float64)
    dense = [torch.tensor([p], dtype=torch.float64).log() for p in ([0.3, 0.3525, 0.3475], [0.3, 0.3466, 0.3534])]
    topks = [rounded(TopK.from_logits(logits, labels, 3, TEMPERATURES), 1 / 8, 3) for logits in dense]
    got = average(topks, 3)
    assert got.unsettled.tolist() == [[True, True, False]]
    error = float(gradient_distance(student, (got, dense_average(dense)), labels))
    assert error <= float(gradient_error_bound(got))
    assert error > float(gradient_error_bound(dataclasses.replace(got, unsettled=None))) > 0


def test_signals_of_other_samples_or_without_t_1_are_refused():
    logits = torch.randn(2, 4)
    one = TopK.from_logits(logits, torch.tensor([0, 1]), 2)
    with pytest.raises(SignalError, match="labels differ"):
        average([one, TopK.from_logits(logits, torch.tensor([0, 2]), 2)], 4)
    with pytest.raises(SignalError, match="labels differ"):
        average([one, TopK.from_logits(logits, None, 2)], 4)
    with pytest.raises(SignalError, match="temperature 1: this teacher's signal holds 2"):
        average([one, TopK.from_logits(logits, torch.tensor([0, 1]), 2, (2.0,))], 4)
