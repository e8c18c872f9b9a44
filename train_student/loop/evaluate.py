"""Validation: the student's figures, over all of accelerate's processes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

from accelerate import Accelerator
from jaxtyping import Float, Int64, UInt8
from numpy import ndarray
from torch import Tensor, nn

from pld import evaluation
from pld.images import Source
from pld.signals import TopK
from pld.views.preprocessing import Preprocessing

# Of the disk for remote images: training holds what it has fetched ahead while this goes on.
VAL_SHARE = 0.125


def evaluate(
    accelerator: Accelerator,
    model: nn.Module,
    source: Source,
    preprocessing: Preprocessing,
    *,
    teacher: Callable[[Int64[ndarray, "n"]], TopK] | None,
    workers: int,
    on_bad_image: Literal["error", "skip"] = "error",
    on_batch: Callable[[], object] = lambda: None,
) -> dict[str, float | int]:
    """The figures of a model on the validation images, over all processes; see `pld.evaluation.evaluate`.

    Args:
        accelerator: whose processes share the samples.
        model: unwrapped, so that processes with more batches than others wait for nobody. Its modules are in training
            or evaluation mode afterwards as they were before.
        source: the validation images.
        preprocessing: the model's.
        teacher: the cached logits of the source's rows, or None.
        workers: loader processes.
        on_bad_image: stop at an image that cannot be decoded, or leave such images out of all figures.
        on_batch: called after each batch, equally often by all processes.
    """

    def predict(images: UInt8[Tensor, "B 3 h w"]) -> Float[Tensor, "B C"]:
        with accelerator.autocast():
            logits: Tensor = model(preprocessing.normalize(images))
        return logits

    # All processes have so many batches, and some have one more.
    common = iter(range(len(range(0, len(source), evaluation.BATCH_SIZE)) // accelerator.num_processes))

    def on_done(num_images: int) -> None:
        if next(common, None) is not None:
            on_batch()

    were_training = {module: module.training for module in model.modules()}
    model.eval()
    figures = evaluation.evaluate(
        predict,
        source,
        preprocessing,
        device=accelerator.device,
        teacher=teacher,
        workers=workers,
        on_bad_image=on_bad_image,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        reduce=functools.partial(accelerator.reduce, reduction="sum"),
        share=VAL_SHARE,
        on_done=on_done,
    )
    for module, training in were_training.items():
        module.training = training
    return figures
