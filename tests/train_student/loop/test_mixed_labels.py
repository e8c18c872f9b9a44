"""A batch of mixed images: which labels reach the loss."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from pld.classes.matching import Classes
from pld.loading import ViewRequest
from pld.losses import loss_names, needs_teacher
from pld.losses.named import NamedLoss
from pld.signals import MixedLabels, TopK
from train_student.config import TrainConfig
from train_student.data.batches import Batch
from train_student.data.teacher_signal import TeacherSignal
from train_student.loop.learner import Learner
from train_student.model.student import build_student

NUM_CLASSES, SIZE = 12, 6
GENERATOR = torch.Generator().manual_seed(0)
LABELS, OTHERS = (torch.randint(NUM_CLASSES, (SIZE,), generator=GENERATOR) for _ in "ab")
MIXED = MixedLabels(labels=LABELS, others=OTHERS, share=torch.tensor([1.0, 0.5, 0.6, 0.7, 0.8, 0.9]))
LOGITS = torch.randn(SIZE, NUM_CLASSES, generator=GENERATOR)


class Given(TeacherSignal):
    """The same signal for each batch."""

    def __init__(self, signal):
        self.given = signal

    def __call__(self, batch, device):
        return self.given


def learner_of(name, signal):
    config = TrainConfig.from_flat(
        data="glyphs",
        output="",
        store=None if signal is None else "store",
        loss=name,
        model="test_resnet",
        num_classes=NUM_CLASSES,
        image_size=16,
        approximate_teacher=True,
    )
    student = build_student(config.model, Classes(names=None, count=NUM_CLASSES, owner="noise"))
    return Learner(Accelerator(cpu=True), config, Given(signal), student, steps_per_epoch=10)


def noise(labels):
    images = torch.randint(256, (SIZE, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return Batch(ViewRequest(np.arange(SIZE), (0,)), labels, (images.contiguous(memory_format=torch.channels_last),))


@pytest.mark.parametrize("kind", ["top-k", "dense"])
@pytest.mark.parametrize("name", loss_names())
def test_a_step_takes_the_loss_of_both_labels(name, kind):
    signal = TopK.from_logits(LOGITS, LABELS.clone(), 4, (1.0, 2.0, 4.0)) if kind == "top-k" else LOGITS
    signal = signal if needs_teacher(name) else None
    learner = learner_of(name, signal)
    learner.student.eval()
    loss = learner._batch_loss(noise(MIXED)).total
    logits = learner.student(learner.preprocessing.normalize(noise(MIXED).images[0]))
    wanted = learner._loss(logits, signal, MIXED)
    torch.testing.assert_close(loss, wanted)
    if name in ("ce", "ls", "kd", "dist", "dkd"):
        assert not torch.equal(learner._loss(logits, signal, LABELS), wanted)
    assert len(learner.step([noise(MIXED)], 0)) == 1


@pytest.mark.parametrize("labels", [MIXED, LABELS, None], ids=["mixed", "unmixed", "unlabelled"])
def test_a_topks_labels_are_not_compared(labels, monkeypatch):
    """The loss gets the TopK's own tensor: the comparison would wait for the device."""
    topk = TopK.from_logits(LOGITS, None if labels is None else LABELS.clone(), 4)
    learner, seen, call = learner_of("pld", topk), [], NamedLoss.in_parts

    def seeing(self, student_logits, teacher, labels):
        seen.append(labels)
        return call(self, student_logits, teacher, labels)

    monkeypatch.setattr(NamedLoss, "in_parts", seeing)
    learner._batch_loss(noise(labels))
    (given,) = seen
    if labels is not MIXED:
        assert given is topk.labels
        return
    assert given.labels is topk.labels
    assert torch.equal(given.others, OTHERS)
    assert torch.equal(given.share, MIXED.share)
