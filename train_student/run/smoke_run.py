"""Two training steps on made-up images and a made-up teacher: that a recipe runs, how fast, and in how much memory."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pld.errors import ConfigError, PLDError
from pld.loading import ViewRequest
from pld.losses import RequiredSignal
from pld.signals import TopK
from pld.views.preprocessing import Preprocessing
from train_student.config import TrainConfig
from train_student.data.batches import Batch
from train_student.data.teacher_signal import TeacherSignal
from train_student.loop.learner import Learner
from train_student.model.student import build_student, student_preprocessing

_CPU_IMAGES = 4  # a whole batch would take minutes there


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmokeRun:
    """What two steps showed, in each process.

    Attributes:
        images: of the first step, and of the second, which has about twice as many where there are enough.
        losses: of the two.
        seconds: of the second step.
        parameters: how many the student has.
        parameter_bytes: of its weights, and so of their gradients.
        state_bytes: of the optimizer.
        average_bytes: of the average of the weights, where there is one.
        fixed_bytes: kept for the backward pass whatever the batch, such as weights in autocast's precision.
        image_bytes: kept for the backward pass for each image.
        peak_bytes: the most that was allocated on a GPU; None elsewhere.
    """

    images: tuple[int, int]
    losses: tuple[float, float]
    seconds: float
    parameters: int
    parameter_bytes: int
    state_bytes: int
    average_bytes: int
    fixed_bytes: int
    image_bytes: int
    peak_bytes: int | None

    def bytes_at(self, batch: int, *, processes: int) -> int:
        """Weights, gradients, optimizer and activations at `batch` images in a micro-batch; no workspace of kernels."""
        copies = 2 if processes == 1 else 3  # DDP keeps the gradients a second time, in its buckets
        held = copies * self.parameter_bytes + self.state_bytes + self.average_bytes
        return held + self.fixed_bytes + batch * self.image_bytes


def smoke_run(config: TrainConfig, accelerator: Accelerator, *, num_classes: int, k: int) -> SmokeRun:
    """Train as configured for two steps; on a CPU with a few images only.

    Args:
        config: the run's.
        accelerator: whose processes share the batch.
        num_classes: C.
        k: classes that the made-up store holds.

    Raises:
        ConfigError: the batch does not fit the device.
        PLDError: the model, the optimizer or the loss cannot be built, or the loss is not finite.
    """
    device, options = accelerator.device, config.optimizer
    share = options.batch_size // accelerator.num_processes // options.accumulate
    largest = min(share, _CPU_IMAGES) if device.type == "cpu" else share
    # Batch norm cannot normalise a single image whose last map is a single pixel.
    sizes = (largest - largest // 2 if largest > 2 else largest), largest
    preprocessing = student_preprocessing(config.model.image_size, config.validation.crop_fraction)
    student, loss_function = build_student(config.model, num_classes), config.loss.build()
    signal = MadeUpTeacher(loss_function.required_signal, num_classes, None if config.teacher.online_teacher else k)
    learner = Learner(
        accelerator, student, loss_function, signal, preprocessing, options, steps_per_epoch=1000, seed=config.run.seed
    )
    losses, kept = [], []
    try:
        for step, size in enumerate(sizes):
            batch = _batch(preprocessing, size, num_classes)
            start = time.monotonic()
            with _measure_saved_bytes(student.parameters()) as saved:
                (loss,) = learner.step([batch], step)
            losses.append(loss.item())  # waits for the device
            seconds = time.monotonic() - start
            kept.append(sum(saved.values()))
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"--batch_size {options.batch_size}: {largest} images at once do not fit {device}: lower it, use "
            "more processes, or raise --accumulate"
        ) from error
    if not all(map(math.isfinite, losses)):
        raise PLDError(
            f"{config.model.name}, {config.loss.name}: the losses of two steps on made-up images are {losses}"
        )
    grown = sizes[1] - sizes[0]
    image_bytes = (kept[1] - kept[0]) // grown if grown else kept[1] // largest
    states = learner.state()["optimizer"]["state"].values()
    return SmokeRun(
        images=sizes,
        losses=(losses[0], losses[1]),
        seconds=seconds,
        parameters=sum(p.numel() for p in student.parameters()),
        parameter_bytes=_bytes(student.parameters()),
        state_bytes=_bytes(value for state in states for value in state.values() if torch.is_tensor(value)),
        average_bytes=_bytes(learner.kept.parameters()) if options.ema_decay else 0,
        fixed_bytes=kept[1] - largest * image_bytes,
        image_bytes=image_bytes,
        peak_bytes=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    )


class MadeUpTeacher(TeacherSignal):
    """Noise: logits where `k` is None, else the top k of such; nothing where the loss needs nothing."""

    def __init__(self, required: RequiredSignal, num_classes: int, k: int | None) -> None:
        self._required, self._num_classes, self._k = required, num_classes, k

    def __call__(self, batch: Batch, device: torch.device) -> TopK | Tensor | None:
        """The signal of a batch."""
        if not self._required.needs_teacher:
            return None
        labels = batch.labels.to(device)
        logits = 2 * torch.randn(len(labels), self._num_classes, device=device)
        if self._k is None:
            return logits
        return TopK.from_logits(logits, labels, self._k, temperatures=(1.0, *{*self._required.temperatures} - {1.0}))


def _batch(preprocessing: Preprocessing, size: int, num_classes: int) -> Batch:
    """Noise as a loader gives it."""
    noise = torch.randint(256, (size, 3, *preprocessing.input_size), dtype=torch.uint8)
    images = noise.contiguous(memory_format=torch.channels_last)
    return Batch(ViewRequest(np.arange(size), (0,)), torch.randint(num_classes, (size,)), (images,))


@contextlib.contextmanager
def _measure_saved_bytes(parameters: Iterable[nn.Parameter]) -> Iterator[dict[int, int]]:
    """Bytes of each storage that autograd saves for the backward pass, parameters left out."""
    known = {p.untyped_storage().data_ptr() for p in parameters}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield found


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
