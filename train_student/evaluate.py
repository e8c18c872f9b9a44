"""Validation: every sample counted once, on any number of processes."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import nn

from pld.images import Source
from pld.images.preprocessing import Preprocessing
from pld.views import Fixed
from train_student.input import ViewDataset, evaluation_items, load


@torch.no_grad()
def evaluate(
    accelerator: Accelerator,
    model: nn.Module,
    source: Source,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    workers: int,
) -> dict[str, float]:
    """Top-1 and top-5 in percent and the mean negative log-likelihood, over all processes.

    Args:
        accelerator: whose processes share the samples.
        model: unwrapped, so that processes with more batches than others wait for nobody.
        source: the validation images; each is cropped in its centre by `preprocessing.crop_fraction`.
        preprocessing: the model's.
        batch_size: images in a process's batch.
        workers: loader processes.
    """
    policy = Fixed(crop_fraction=preprocessing.crop_fraction)
    items = evaluation_items(
        len(source), batch_size=batch_size, rank=accelerator.process_index, world=accelerator.num_processes
    )
    sums = torch.zeros(4, dtype=torch.float64, device=accelerator.device)
    was_training = model.training
    model.eval()
    for batch in load(ViewDataset(source, policy, [preprocessing]), items, workers=workers):
        labels = batch.labels.to(accelerator.device, non_blocking=True)
        images = preprocessing.normalize(batch.images[0].to(accelerator.device, non_blocking=True))
        with accelerator.autocast():
            logits = model(images)
        logits = logits.float()
        hits = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
        nll = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        sums += torch.stack([hits[:, 0].sum(), hits.any(1).sum(), nll, torch.tensor(len(labels), device=nll.device)])
    model.train(was_training)
    top1, top5, nll_sum, count = accelerator.reduce(sums, reduction="sum").tolist()
    return {"top1": 100 * top1 / count, "top5": 100 * top5 / count, "nll": nll_sum / count}
