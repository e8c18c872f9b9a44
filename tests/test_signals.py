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
