"""How far KD's gradient from a sampled tail is from that of every class, computed from what the signal itself holds."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from pld.signals import TopK
from pld.signals.tail_sample import LEAST_LOG_INCLUSION


def tail_errors(topk: TopK, num_classes: int) -> tuple[Float64[Tensor, "B T"], Float64[Tensor, "B T"]]:
    """The mean squared error of KD's gradient, and the squared length of that gradient, each estimated.

    Both are of q - p with respect to the logits over T, at each temperature held. The error does not depend on the
    student; the length is that of an untrained one, whose q is even. In the notation of `TailSample`, the error is
    the sum over the tail of (p - r)^2 (1 - pi) / pi, the length the sum over all classes of (p - 1 / C)^2. Of each, the
    tail's part is estimated as the sum over the classes drawn of the same over pi, so means over many rows are near.

    Args:
        topk: a signal with a sampled tail.
        num_classes: C.
    """
    listed = topk.logprobs.double()
    num_held = topk.listed.sum(dim=1, keepdim=True).to(listed.dtype)
    if topk.labels is not None and topk.label_logprob is not None:
        outside = (topk.classes != topk.labels[:, None]).all(dim=1, keepdim=True)
        label = topk.label_logprob.double()[:, None].masked_fill(~outside, -torch.inf)
        listed, num_held = torch.cat([listed, label], dim=1), num_held + outside
    sample = topk.tail_sample
    assert sample is not None  # the caller's part
    inclusion = sample.log_inclusion().double().clamp(min=LEAST_LOG_INCLUSION).exp()
    errors, lengths = [], []
    for temperature in topk.temperatures:
        tail = topk.tail_at(temperature).double()[:, None]
        log_norm = torch.cat([listed / temperature, tail], dim=1).logsumexp(dim=1, keepdim=True)
        drawn = (sample.logprobs.double() / temperature - log_norm).exp()
        even = (tail - log_norm).exp() / (num_classes - num_held)
        errors.append(((drawn - even) ** 2 * (1 - inclusion) / inclusion**2).sum(dim=1))
        held = ((listed / temperature - log_norm).exp() - 1 / num_classes).masked_fill(listed == -torch.inf, 0.0)
        lengths.append((held**2).sum(dim=1) + ((drawn - 1 / num_classes) ** 2 / inclusion).sum(dim=1))
    return torch.stack(errors, dim=1), torch.stack(lengths, dim=1)
