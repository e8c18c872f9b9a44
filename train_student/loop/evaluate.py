"""Validation: every sample counted once, on any number of processes."""

from __future__ import annotations

import contextlib
import functools
from typing import Literal

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from jaxtyping import Float, Int
from torch import Tensor, nn

from pld.errors import DataError
from pld.images import Source
from pld.loading import in_flight, prefetch_shards, view_decoder
from pld.losses import kd_loss
from pld.signals import TopK
from pld.views import Fixed
from pld.views.preprocessing import Preprocessing
from train_student.data.batches import evaluation_items, load_batches
from train_student.data.teacher_signal import StoredTeacher

_CALIBRATION_BINS = 15
_BATCH_SIZE = 128
# Of the disk for remote images: training holds what it has fetched ahead while this goes on.
VAL_SHARE = 0.125


@torch.no_grad()
def evaluate(
    accelerator: Accelerator,
    model: nn.Module,
    source: Source,
    preprocessing: Preprocessing,
    *,
    teacher: StoredTeacher | None,
    workers: int,
    on_bad_image: Literal["error", "skip"] = "error",
) -> dict[str, float | int]:
    """The figures of a model on a validation set, over all processes.

    Args:
        accelerator: whose processes share the samples.
        model: unwrapped, so that processes with more batches than others wait for nobody.
        source: the validation images; each is cropped in its centre by `preprocessing.crop_fraction`.
        preprocessing: the model's.
        teacher: the cached teacher of the same images, or None.
        workers: loader processes.
        on_bad_image: stop at an image that cannot be decoded, or leave such images out of all figures.

    Returns:
        `top1`, `top5` and `ece` (expected calibration error, 15 bins of equal width; Guo et al. 2017) in percent, `nll`
        in nats; with a teacher also `agreement` (same first choice, percent) and `kl` (teacher to student at T = 1,
        nats; from a truncated teacher its tail is one class, a lower bound). Where bad images are left out
        `val_bad_images`, how many.

    Raises:
        UndecodableImageError: an image cannot be decoded and is not to be left out; names the sample.
        DataError: none can be decoded, or one cannot be read.
    """
    policy = Fixed(crop_fraction=preprocessing.crop_fraction)
    mine = functools.partial(
        evaluation_items,
        len(source),
        batch_size=_BATCH_SIZE,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    ahead = prefetch_shards(source, [mine], lambda item: item.rows, in_flight=in_flight(workers), share=VAL_SHARE)
    device = accelerator.device
    sums = torch.zeros(6, dtype=torch.float64, device=device)
    bins = torch.zeros(2, _CALIBRATION_BINS, dtype=torch.float64, device=device)
    was_training = model.training
    model.eval()
    decoder = view_decoder(source, policy, [preprocessing], skip_bad_images=on_bad_image == "skip")
    with (
        contextlib.closing(ahead) as items,
        load_batches(source, decoder, items, workers=workers, fill_gaps=False) as batches,
    ):
        for batch in batches:
            assert batch.labels is not None  # validation images have labels
            if not len(batch.labels):
                continue  # models need not take empty batches
            labels = batch.labels.to(device, non_blocking=True)
            images = preprocessing.normalize(batch.images[0].to(device, non_blocking=True))
            with accelerator.autocast():
                logits = model(images)
            logits = logits.float()
            sums[0] += len(labels)
            sums[1:4] += _sums(logits, labels)
            bins += _calibration(logits, labels)
            if teacher:
                sums[4:] += _teacher_sums(logits, teacher(batch, device))
    model.train(was_training)
    num_good, *all_sums = accelerator.reduce(sums, reduction="sum").tolist()
    if not num_good:
        raise DataError(f"{source.location}: none of the {len(source)} validation images can be decoded; replace them")
    top1, top5, nll, agreement, kl = (each / num_good for each in all_sums)
    confidence, correct = accelerator.reduce(bins, reduction="sum") / num_good
    ece = float((confidence - correct).abs().sum())
    figures: dict[str, float | int] = {"top1": 100 * top1, "top5": 100 * top5, "nll": nll, "ece": 100 * ece}
    if teacher:
        figures |= {"agreement": 100 * agreement, "kl": kl}
    return figures | ({"val_bad_images": len(source) - int(num_good)} if on_bad_image == "skip" else {})


def _sums(logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"]) -> Float[Tensor, "3"]:
    """How often the label is first and among the first five, and the sum of its negative log-probability."""
    hits = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
    nll = F.cross_entropy(logits, labels, reduction="none").double().sum()
    return torch.stack([hits[:, 0].sum().double(), hits.any(1).sum().double(), nll])


def _calibration(logits: Float[Tensor, "B C"], labels: Int[Tensor, "B"]) -> Float[Tensor, "2 bins"]:
    """By bin of confidence: the sum of confidences, and how many of their choices are right."""
    confidence, choice = logits.softmax(1).max(1)
    index = (confidence * _CALIBRATION_BINS).long().clamp(max=_CALIBRATION_BINS - 1)
    values = torch.stack([confidence, (choice == labels).float()]).double()
    return values.new_zeros(2, _CALIBRATION_BINS).scatter_add_(1, index.expand(2, -1), values)


def _teacher_sums(logits: Float[Tensor, "B C"], teacher: TopK) -> Float[Tensor, "2"]:
    """How often student and teacher choose alike, and the sum of the teacher's KL to the student."""
    alike = (logits.argmax(1) == teacher.classes[:, 0]).sum()
    kl = kd_loss(logits, teacher, teacher.labels, alpha=0.0, temperature=1.0, reduction="none").double().sum()
    return torch.stack([alike.double(), kl])
