"""All tensors of a signal are changed together, those of its sampled tail too."""

import pytest
import torch

from pld.signals import TopK, with_tensors


def make(rows, labelled=True):
    generator = torch.Generator().manual_seed(rows)
    logits = 5 * torch.randn(rows, 12, generator=generator)
    labels = torch.randint(12, (rows,), generator=generator) if labelled else None
    return TopK.from_logits(logits, labels, 4, (1.0, 2.0), tail_samples=3, error=0.3)


@pytest.mark.parametrize("labelled", [True, False])
def test_rows_of_several(labelled):
    first, second = make(5, labelled), make(7, labelled)
    joined = with_tensors([first, second], lambda *tensors: torch.cat(tensors))
    joined.validate(12)
    assert (joined.k, joined.tail_samples, joined.temperatures) == (4, 3, (1.0, 2.0))
    own = with_tensors([joined], lambda tensor: tensor[5:])
    for name in ("classes", "logprobs", "tail_logmass", "counts"):
        assert torch.equal(getattr(own, name), getattr(second, name))
    for name in ("classes", "logprobs", "threshold"):
        assert torch.equal(getattr(own.tail_sample, name), getattr(second.tail_sample, name))
    if labelled:
        assert torch.equal(own.labels, second.labels)
        assert torch.equal(own.label_logprob, second.label_logprob)
    else:
        assert (own.labels, own.label_logprob) == (None, None)


def test_a_signal_moves_as_a_whole():
    moved, sample = make(5).to("meta"), make(5).to("meta").tail_sample
    tensors = (moved.classes, moved.logprobs, moved.labels, moved.label_logprob, moved.tail_logmass, moved.counts)
    assert {tensor.device.type for tensor in (*tensors, sample.classes, sample.logprobs, sample.threshold)} == {"meta"}
