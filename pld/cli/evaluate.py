"""Measure a model on labelled images: top-1, top-5, likelihood, calibration, and agreement with a store."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path
from typing import get_args

import torch

from pld.classes.names import read_class_map
from pld.cli.arguments import add_part, open_images, positive
from pld.errors import ConfigError, TeacherError
from pld.evaluation import evaluate, stored_signals
from pld.images import Source
from pld.join.match import map_classes
from pld.join.validation_store import join_validation
from pld.precision import Precision
from pld.progress import progress
from pld.report.table import as_text
from pld.store import open_store
from pld.teachers import Teacher, build_teacher, set_image_size

_LOG = logging.getLogger(__name__)

_LABELS = {
    "top1": "top-1, %",
    "top5": "top-5, %",
    "nll": "NLL, nats",
    "ece": "calibration error, %",
    "agreement": "agrees with the store, %",
    "kl": "KL from the store, nats",
    "val_bad_images": "images left out",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("model", help="any that cache-teacher's --teacher takes, such as local-dir:RUN/model")
    parser.add_argument("--weights", metavar="FILE", help="the model's weights, as cache-teacher's --weights")
    parser.add_argument("--data", required=True, help="the images")
    add_part(parser, "val")
    parser.add_argument("--class_map", metavar="FILE", help="which of the model's classes each of the data's is")
    parser.add_argument("--store", help="a store of these images' centre crops: how far the model agrees with it")
    parser.add_argument(
        "--image_size", type=positive, metavar="PX", help="side of the model's input (default: its own)"
    )
    parser.add_argument("--crop_fraction", type=_fraction, help="of the centre crop (default: the model's own)")
    parser.add_argument("--batch_size", type=positive, default=128, help="images at once (default: 128)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where the model runs")
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32", help="of the model (default: fp32)")
    parser.add_argument(
        "--workers", type=_count, default=2, help="loader processes; 0 decodes in this one (default: 2)"
    )
    parser.add_argument(
        "--on_bad_image", choices=("error", "skip"), default="error", help="stop at a broken image, or leave it out"
    )


def execute(arguments: argparse.Namespace) -> None:
    """Evaluate it and print a table."""
    _check_is_named(arguments.model)
    source = open_images(arguments.data, arguments)
    store = open_store(arguments.store) if arguments.store else None
    own = source.classes.count
    if store:
        source = join_validation(store, source, "--store")
    other = None
    if source.classes.count != own:
        other = (
            f"{arguments.store}: has {source.classes.count} classes and these images {own}: the model chooses among "
            "the store's here, so top-1, top-5, NLL and calibration differ from those without --store"
        )
    model, note = map_classes(_build(arguments), source.classes, read_class_map(arguments.class_map))
    for warning in filter(None, (*source.remarks, *model.notes, note, other)):
        _LOG.warning("%s", warning)
    with progress(len(source), f"evaluating {arguments.model}") as bar:
        figures = evaluate(
            model.logits,
            source,
            model.preprocessing,
            device=torch.device(arguments.device),
            teacher=stored_signals(store, source) if store else None,
            workers=arguments.workers,
            batch_size=arguments.batch_size,
            on_bad_image=arguments.on_bad_image,
            on_done=bar.update,
        )
    print(as_text(("model", arguments.model), [*_facts(model, source), *_rows(figures)]))


def _build(arguments: argparse.Namespace) -> Teacher:
    """The model, at the size and with the crop that are asked for."""
    model = build_teacher(arguments.model, arguments.weights, precision=arguments.precision, device=arguments.device)
    preprocessing = model.preprocessing
    if arguments.crop_fraction:
        preprocessing = dataclasses.replace(preprocessing, crop_fraction=arguments.crop_fraction)
    if arguments.image_size:
        size = (arguments.image_size, arguments.image_size)
        try:
            set_image_size(model.model, size)
        except TeacherError as error:
            raise ConfigError(f"--image_size {size[0]}: {arguments.model}: {error}; leave the option out") from error
        preprocessing = dataclasses.replace(preprocessing, input_size=size)
    return dataclasses.replace(model, preprocessing=preprocessing)


def _facts(model: Teacher, source: Source) -> list[tuple[str, str]]:
    """What was measured."""
    wants = model.preprocessing
    height, width = wants.input_size
    classes = f"{model.num_outputs}"
    if model.num_outputs < model.num_classes:
        classes += f" of the model's {model.num_classes}, the only ones that it can choose"
    crop = f"{wants.interpolation}, the centre {100 * wants.crop_fraction:.4g} %"
    return [
        ("weights' sha256", model.weights_sha256),
        ("images", f"{len(source):,}, {source.location}"),
        ("classes", classes),
        ("input", f"{height} x {width} px, {crop}, {model.precision}"),
    ]


def _rows(figures: dict[str, float | int]) -> list[tuple[str, str]]:
    shown = {name: f"{value:.2f}" for name, value in figures.items()}
    shown |= {name: f"{figures[name]:.4f}" for name in ("nll", "kl") if name in figures}
    shown |= {name: f"{value:,}" for name, value in figures.items() if isinstance(value, int)}
    return [(_LABELS.get(name, name), text) for name, text in shown.items()]


def _check_is_named(model: str) -> None:
    """Raise ConfigError, naming it as the command wants it, where a path stands for a model."""
    found = next((each for each in (Path(model), Path(model) / "model") if (each / "config.json").is_file()), None)
    if found:
        raise ConfigError(f"{model}: is a folder; name the model in it: local-dir:{found}")


def _fraction(text: str) -> float:
    """A number above 0, at most 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"found {text}, wanted a number above 0, at most 1")
    return value


def _count(text: str) -> int:
    """A whole number from 0 on."""
    return 0 if text == "0" else positive(text)
