"""What a TopK holds of dense logits, with labels and without, and what it refuses."""

import dataclasses

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pld.errors import SignalError
from pld.signals import TopK


@given(st.integers(1, 5), st.integers(2, 12), st.data())
def test_mass_is_conserved_at_every_temperature(num, classes, data):
    k = data.draw(st.integers(1, classes))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32)))
    logits = (torch.randn(num, classes, generator=generator, dtype=torch.float64) * 4).round()
    labels = torch.randint(classes, (num,), generator=generator)
    temperatures = (0.5, 1.0, 4.0)
    topk = TopK.from_logits(logits, labels, k, temperatures)
    logprobs = logits.log_softmax(1)
    for row in range(num):
        ranked = sorted(range(classes), key=lambda c: (-float(logits[row, c]), c))
        assert topk.classes[row].tolist() == ranked[:k]
        outside = [c for c in range(classes) if c not in {*ranked[:k], int(labels[row])}]
        for t in temperatures:
            mass = float((logprobs[row, outside] / t).exp().sum())
            assert float(topk.tail_at(t)[row].exp()) == pytest.approx(mass, rel=1e-9, abs=1e-12)
    assert torch.equal(topk.label_logprob, logprobs.gather(1, labels[:, None])[:, 0])
    assert topk.k == k


def test_all_classes_leave_an_empty_tail():
    topk = TopK.from_logits(torch.randn(3, 4), torch.tensor([0, 1, 2]), 4, (1.0, 2.0))
    assert bool((topk.tail_logmass == -torch.inf).all())


@pytest.mark.parametrize(
    ("logits", "labels", "k", "message"),
    [
        (torch.zeros(2, 3), [0, 1], 0, "k = 0: the teacher has 3 classes"),
        (torch.zeros(2, 3), [0, 1], 4, "k = 4: the teacher has 3 classes"),
        (torch.zeros(2, 3), [0, 3], 2, r"labels: found 0..3, wanted 0..2"),
        (torch.full((2, 3), torch.nan), [0, 1], 2, "found inf or nan"),
    ],
)
def test_wrong_input(logits, labels, k, message):
    with pytest.raises(SignalError, match=message):
        TopK.from_logits(logits, torch.tensor(labels), k)


def test_a_temperature_it_does_not_hold():
    topk = TopK.from_logits(torch.zeros(1, 3), torch.tensor([0]), 2, (1.0, 2.0))
    with pytest.raises(SignalError, match="temperature 4: this teacher's signal holds 1, 2"):
        topk.tail_at(4.0)


def changed(**fields):
    """A good TopK of three samples, top 2 of 5 classes, with some fields replaced by functions of the good ones."""
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0, 0.0], [0.0, 1.0, 2.0, 3.0, 0.0], [1.0, 0.0, 3.0, 0.0, 2.0]])
    good = TopK.from_logits(logits, torch.tensor([0, 0, 4]), 2, (1.0, 2.0))
    return dataclasses.replace(good, **{name: change(getattr(good, name)) for name, change in fields.items()})


@given(st.integers(1, 5), st.integers(2, 30), st.data())
def test_what_from_logits_makes_is_valid(num, classes, data):
    k = data.draw(st.integers(1, classes))
    logits = torch.randn(num, classes, generator=torch.Generator().manual_seed(k + 100 * classes)) * 5
    TopK.from_logits(logits, torch.arange(num) % classes, k, (0.5, 1.0, 4.0)).validate(classes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": lambda c: c.flip(1), "logprobs": lambda p: p.flip(1)}, "that rise with the rank, first in row 0"),
        ({"classes": lambda c: torch.cat([c[:2], c[2:, :1].expand(1, 2)])}, "a class twice in a row, first in row 2"),
        ({"classes": lambda c: c + 2}, "classes outside 0..C-1, first in row 1"),
        ({"classes": lambda c: c - 1}, "classes outside 0..C-1, first in row 0"),
        ({"labels": lambda y: y + 1}, "labels outside 0..C-1, first in row 2"),
        ({"logprobs": lambda p: p * torch.nan}, "that are not finite, first in row 0"),
        ({"label_logprob": lambda p: p - 1}, "a label whose log-probability is not that of its entry, first in row 0"),
        ({"tail_logmass": lambda t: t + 1}, "probabilities that do not sum to 1"),
        ({"tail_logmass": lambda t: t + 9}, "tails of more mass than C classes can have"),
        ({"logprobs": lambda p: p[:, :1]}, r"TopK.logprobs: found torch.float32 of shape \[3, 1\], wanted .* \[3, 2\]"),
        ({"temperatures": lambda t: t[:1]}, r"TopK.tail_logmass: found .* of shape \[3, 2\], wanted .* \[3, 1\]"),
        ({"classes": lambda c: c.float()}, r"TopK.classes: found torch.float32 .* wanted int64"),
    ],
)
def test_validate_names_what_is_wrong(fields, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users have our checks alone
    topk = changed(**fields)
    with pytest.raises(SignalError, match=message):
        topk.validate(5)
    with pytest.raises(SignalError, match=r"TopK.classes: found shape \[3, 2\], wanted k from 1 to 1"):
        changed().validate(1)


@given(st.integers(1, 5), st.integers(2, 12), st.data())
def test_without_labels_s_is_the_top_k_alone(num, classes, data):
    k = data.draw(st.integers(1, classes))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32)))
    logits = (torch.randn(num, classes, generator=generator, dtype=torch.float64) * 4).round()
    topk = TopK.from_logits(logits, None, k, (0.5, 1.0, 4.0))
    topk.validate(classes)
    assert (topk.labels, topk.label_logprob) == (None, None)
    labelled = TopK.from_logits(logits, topk.classes[:, 0], k, (0.5, 1.0, 4.0))  # a label that is among the top k
    for name in ("classes", "logprobs", "tail_logmass"):
        assert torch.equal(getattr(topk, name), getattr(labelled, name))
    assert topk.to("cpu").labels is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.tensor([0, 1])}, "one of labels and label_logprob without the other"),
        ({"label_logprob": torch.zeros(2)}, "one of labels and label_logprob without the other"),
        ({"tail_logmass": torch.zeros(2, 1)}, "probabilities that do not sum to 1"),
        ({"logprobs": torch.tensor([[-3.0, -1.0], [-1.0, -3.0]])}, "log-probabilities that rise with the rank"),
    ],
)
def test_a_signal_without_labels_is_checked(change, message):
    topk = TopK.from_logits(torch.tensor([[3.0, 2.0, 1.0], [0.0, 1.0, 2.0]]), None, 2)
    with pytest.raises(SignalError, match=message):
        dataclasses.replace(topk, **change).validate(3)
