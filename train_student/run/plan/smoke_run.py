"""Train two steps on synthetic images and a synthetic teacher, to check a recipe and measure its speed and memory."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pld.classes.matching import Classes
from pld.errors import ConfigError, PLDError
from pld.loading import ViewRequest
from pld.losses import RequiredSignal
from pld.report.quantities import bytes_text
from pld.signals import MixedLabels, TopK, larger_share
from pld.views.preprocessing import Preprocessing
from train_student.config import TrainConfig
from train_student.data.batches import Batch
from train_student.data.teacher_signal import TeacherSignal
from train_student.loop.learner import Learner
from train_student.loop.state_tree import flatten
from train_student.model.student import build_student
from train_student.run.init_from import open_initial_weights

_CPU_IMAGES = 4  # a whole batch would take minutes there


def smoke_run(
    config: TrainConfig,
    accelerator: Accelerator,
    *,
    classes: Classes,
    k: int,
    labelled: bool = True,
    mixed: bool = False,
    tail_samples: int = 0,
) -> list[tuple[str, str]]:
    """Train as configured for two steps, on a CPU with a few images only; returns rows of what they showed.

    Args:
        config: the run's.
        accelerator: whose processes share the batch.
        classes: the data's.
        k: classes that the made-up store holds.
        labelled: whether the made-up images have labels.
        mixed: whether they count as mixed ones, with two labels.
        tail_samples: classes that the store draws from the tail.

    Raises:
        ConfigError: the batch does not fit the device.
        PLDError: the model, the optimizer or the loss cannot be built, or the loss is not finite.
    """
    device, options, world = accelerator.device, config.optimizer, accelerator.num_processes
    share = options.batch_size // world // options.accumulate
    largest = min(share, _CPU_IMAGES) if device.type == "cpu" else share
    # Batch norm cannot normalise a single image whose last map is a single pixel.
    images = (largest - largest // 2 if largest > 2 else largest), largest
    required = config.loss.build().required_signal
    signal = MadeUpTeacher(required, classes.count, None if config.teacher.online_teacher else k, tail_samples)
    beginning = open_initial_weights(config.model)
    crop_fraction = config.validation.crop_fraction
    begun = build_student(config.model, classes, crop_fraction=crop_fraction, weights=beginning)
    learner = Learner(accelerator, config, signal, begun, steps_per_epoch=1000)
    student = learner.student
    losses, saved = [], []
    try:
        for step, size in enumerate(images):
            batch = _batch(learner.preprocessing, size, classes.count, labelled=labelled, mixed=mixed)
            start = time.monotonic()
            with _measure_saved_bytes(student.parameters()) as found:
                (loss,) = learner.step([batch], step)
            losses.append(loss.total.item())  # waits for the device
            seconds = time.monotonic() - start
            saved.append(sum(found.values()))
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"--batch_size {options.batch_size}: {largest} images at once do not fit {device}: lower it, use "
            "more processes, or raise --accumulate"
        ) from error
    if not all(map(math.isfinite, losses)):
        raise PLDError(
            f"{config.model.name}, {config.loss.name}: the losses of two steps on made-up images are {losses}"
        )
    weights = _bytes(student.parameters())
    gradients = weights if world == 1 else 2 * weights  # DDP keeps them a second time, in its buckets
    states = learner.state()["optimizer"]["state"].values()
    state = _bytes(value for state in states for value in state.values() if torch.is_tensor(value))
    saved_tensors: dict[str, Tensor] = {}
    flatten(learner.state(), saved_tensors)
    checkpoint, kept = _bytes(saved_tensors.values()), config.run.keep_checkpoints
    average = _bytes(learner.kept.parameters()) if options.ema_decay else 0
    activations = saved[1] + (share - largest) * (saved[1] - saved[0]) // max(1, images[1] - images[0])
    together = weights + gradients + state + average + activations
    rows = [
        *([("begins with", beginning.where)] if beginning else []),
        *([("", begun.note)] if begun.note else []),
        ("weights", f"{bytes_text(weights)}, {sum(p.numel() for p in student.parameters()):,} parameters"),
        ("gradients", bytes_text(gradients)),
        ("optimizer", f"{bytes_text(state)}, {options.opt}"),
        *([("average", f"{bytes_text(average)}, of the weights")] if average else []),
        ("activations", f"{bytes_text(activations)} for {share:,} images at once"),
        (
            "checkpoints",
            f"{bytes_text(checkpoint)} each, {bytes_text((kept + 1) * checkpoint)} for {kept} and one being written",
        ),
        ("together", f"{bytes_text(together)} in each process, without the workspace of kernels"),
    ]
    if device.type == "cuda":
        peak = bytes_text(torch.cuda.max_memory_allocated(device))
        rows.append(("measured", f"{peak} at most allocated on the GPU with {largest} images"))
    for number, size, value in zip((1, 2), images, losses, strict=True):
        rows.append((f"step {number}", f"loss {value:.4f}, {size} made-up images in each process"))
    return [*rows, ("seconds", f"{seconds:.2f} for step 2, {config.run.resolved_precision} on {device.type}")]


class MadeUpTeacher(TeacherSignal):
    """Random logits: dense if `k` is None, else their top k; no signal if the loss needs no teacher."""

    def __init__(self, required: RequiredSignal, num_classes: int, k: int | None, tail_samples: int = 0) -> None:
        self._required, self._num_classes, self._k = required, num_classes, k
        self._tail_samples = tail_samples

    def __call__(self, batch: Batch, device: torch.device) -> TopK | Tensor | None:
        """The signal of a batch."""
        if not self._required.needs_teacher:
            return None
        labels = larger_share(batch.labels)
        labels = None if labels is None else labels.to(device)
        logits = 2 * torch.randn(len(batch.request.rows), self._num_classes, device=device)
        if self._k is None:
            return logits
        temperatures = (1.0, *{*self._required.temperatures} - {1.0})
        return TopK.from_logits(logits, labels, self._k, temperatures, tail_samples=self._tail_samples)


def _batch(preprocessing: Preprocessing, size: int, num_classes: int, *, labelled: bool, mixed: bool) -> Batch:
    noise = torch.randint(256, (size, 3, *preprocessing.input_size), dtype=torch.uint8)
    images = noise.contiguous(memory_format=torch.channels_last)
    labels: Tensor | MixedLabels | None = torch.randint(num_classes, (size,)) if labelled else None
    if mixed and isinstance(labels, Tensor):
        labels = MixedLabels(labels=labels, others=labels.flip(0), share=torch.rand(size) / 2 + 0.5)
    return Batch(ViewRequest(np.arange(size), (0,)), labels, (images,))


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
