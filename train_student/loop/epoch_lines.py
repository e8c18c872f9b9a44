"""What the console says at the end of an epoch: its figures, where its time went, and what to change."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator

from pld.images.decode.jpeg_box import HAS_BOXES
from pld.views import Policy
from pld.views.steps.pixels.compiled_ops import HAS_PIXELS
from train_student.config import TrainConfig

_LEAST_SHARE, _LARGE_SHARE = 0.02, 0.1
_LOADING = ("reading", "decoding", "cutting")
_REINSTALL = "install pld-distill again where there are a C compiler, Python's headers and an x86 processor with AVX2"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What decides which change helps.

    Attributes:
        config: the run's options.
        idle_cores: of the machine, for each of its processes, beside what it and its loaders use.
        has_boxes: whether the C extension that decodes only the crop is there.
        has_pixels: whether the one is that changes pixels after the crop.
        has_steps: whether views have steps after the crop.
    """

    config: TrainConfig
    idle_cores: int
    has_boxes: bool = HAS_BOXES
    has_pixels: bool = HAS_PIXELS
    has_steps: bool = False

    @classmethod
    def of(cls, config: TrainConfig, accelerator: Accelerator, policy: Policy) -> Circumstances:
        """Those of this process on its machine."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes))
        own = 1 if accelerator.device.type == "cuda" else torch.get_num_threads()
        idle_cores = cores // processes - own - config.data.workers
        return cls(config=config, idle_cores=max(0, idle_cores), has_steps=bool(policy.steps))


def epoch_lines(
    figures: Mapping[str, Any],
    bad_keys: Sequence[str],
    epoch: int,
    lr: float,
    run_seconds: float | None,
    circumstances: Circumstances,
) -> list[str]:
    """A line of figures; before it what is to be known of broken images, behind it what to change, if anything is.

    Args:
        figures: the epoch's, as in metrics.jsonl.
        bad_keys: of images that could not be decoded, where they are known.
        epoch: from 1.
        lr: the learning rate.
        run_seconds: of the whole run, after its last epoch; else None.
        circumstances: of the run.
    """
    lines = []
    if num := figures.get("bad_images"):
        named = f" ({', '.join(bad_keys[:3])}{', ...' * (num > 3)})" if bad_keys else ""
        lines.append(f"epoch {epoch}: others took the places of images that cannot be decoded: {num}{named}")
    if num := figures.get("val_bad_images"):
        lines.append(f"epoch {epoch}: validation images left out, as they cannot be decoded: {num}")
    shares = {name.removeprefix("time/"): value for name, value in figures.items() if name.startswith("time/")}
    said, epochs = ", ".join(_figures(figures, lr)), circumstances.config.optimizer.epochs
    taken = f"; {run_seconds:,.0f} s in all" if run_seconds is not None else ""
    lines.append(f"epoch {epoch}/{epochs}: {said}; time: {_times(shares)}{taken}")
    suggestion = suggest(shares, circumstances)
    return [*lines, suggestion] if suggestion else lines


def _figures(figures: Mapping[str, Any], lr: float) -> Iterator[str]:
    parts = [f"{name} {figures[f'loss/{name}']:.3f}" for name in ("label", "teacher") if f"loss/{name}" in figures]
    yield f"loss {figures['loss']:.3f}" + (f" ({', '.join(parts)})" if parts else "")
    if "top1" in figures:
        yield f"top-1 {figures['top1']:.2f} %"
        yield f"top-5 {figures['top5']:.2f} %"
    yield f"{figures['images_per_second']:,.0f} img/s"
    yield f"lr {lr:.3g}"


def _times(shares: Mapping[str, float]) -> str:
    """The larger shares, the largest first."""
    large = sorted((-value, name) for name, value in shares.items() if value >= _LEAST_SHARE)
    return ", ".join(f"{name} {-100 * value:.0f} %" for value, name in large)


def suggest(shares: Mapping[str, float], circumstances: Circumstances) -> str | None:
    """One line about the part that takes most of an epoch's time beside the steps; None where no part takes much.

    Args:
        shares: of the parts, see `to_shares`.
        circumstances: of the run.
    """
    for name in sorted(_SUGGESTIONS, key=lambda name: -shares.get(name, 0.0)):
        # Waiting for images is one thing, whatever the loaders did.
        together = _LOADING if name in _LOADING else (name,)
        if sum(shares.get(part, 0.0) for part in together) > _LARGE_SHARE and (
            change := _SUGGESTIONS[name](circumstances)
        ):
            return f"{name} took {100 * shares[name]:.0f} % of the time: {change}"
    return None


def _for_reading(found: Circumstances) -> str:
    return (
        "put the images on a faster or nearer disk (those behind a URL: PLD_CACHE), or write single files as shards: "
        "pld data SOURCE --shards OUT"
    )


def _for_decoding(found: Circumstances) -> str:
    if found.idle_cores:
        return _more_workers(found)
    if not found.has_boxes:
        return f"here photos are decoded beyond their crops: {_REINSTALL}"
    return "no core is idle; store smaller images: pld data SOURCE --shards OUT --longest_side 500"


def _for_cutting(found: Circumstances) -> str:
    if found.idle_cores:
        return _more_workers(found)
    if found.has_steps and not found.has_pixels:
        return f"here Pillow does the steps of the views: {_REINSTALL}"
    if found.has_steps:
        return "no core is idle; train on views with fewer steps (--policy, or a store of such views)"
    return "no core is idle; train on smaller views (--image_size)"


def _more_workers(found: Circumstances) -> str:
    cores = "core is" if found.idle_cores == 1 else "cores are"
    return (
        f"raise --workers (now {found.config.data.workers}); {found.idle_cores} {cores} idle for each training process"
    )


def _for_joining(found: Circumstances) -> str:
    return "read the store from a local disk; one behind a URL is copied by pld pull URL FOLDER, then --store FOLDER"


def _for_teacher(found: Circumstances) -> str:
    return "cache the teacher's logits once with cache-teacher, and train with --store in place of --online_teacher"


def _for_saving(found: Circumstances) -> str:
    run, every = found.config.run, found.config.validation.eval_every
    option = "checkpoint_minutes" if run.checkpoint_steps is None else "checkpoint_steps"
    return (
        f"raise --{option} (now {getattr(run, option):g}), and --eval_every (now {every}), as there is a checkpoint "
        "before each validation"
    )


def _for_validating(found: Circumstances) -> str | None:
    every = found.config.validation.eval_every
    if every >= found.config.optimizer.epochs:  # then there is one validation alone
        return None
    return f"raise --eval_every (now {every})"


_SUGGESTIONS: dict[str, Callable[[Circumstances], str | None]] = {
    "reading": _for_reading,
    "decoding": _for_decoding,
    "cutting": _for_cutting,
    "joining": _for_joining,
    "teacher": _for_teacher,
    "saving": _for_saving,
    "validating": _for_validating,
}
