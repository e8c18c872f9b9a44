"""Mixed labels."""

import torch

from pld.signals import MixedLabels, larger_share


def test_mixed_labels_on_another_device_and_their_larger_share():
    labels, others = torch.tensor([0, 1]), torch.tensor([2, 3])
    mixed = MixedLabels(labels=labels, others=others, share=torch.tensor([0.5, 1.0]))
    assert larger_share(mixed) is labels
    assert larger_share(labels) is labels
    assert larger_share(None) is None
    moved = mixed.to("meta", non_blocking=True)
    assert {moved.labels.device.type, moved.others.device.type, moved.share.device.type} == {"meta"}
