"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from pld.classes.names import read_class_names
from pld.errors import DataError, NoLabelsError
from pld.images import Source, open_source


def local_path(text: str) -> Path:
    """A path on this machine; a URL is refused, as it would become a folder of that name."""
    if "://" in text:
        raise argparse.ArgumentTypeError(f"found the URL {text}, wanted a path on this machine")
    return Path(text).expanduser()


def add_images(parser: argparse.ArgumentParser, help: str, *, required: bool = False) -> None:
    """--data, --split and --class_names, from which `open_images` opens them."""
    parser.add_argument("--data", required=required, help=help)
    add_part(parser)


def add_part(parser: argparse.ArgumentParser, split: str = "train") -> None:
    """--split and --class_names."""
    parser.add_argument("--split", default=split, help=f"which part of a folder of images (default: {split})")
    parser.add_argument(
        "--class_names", metavar="FILE", help="their classes' names in the order of the numbers, as cache-teacher's"
    )


def open_images(location: str, arguments: argparse.Namespace, *, unlabelled: bool = False) -> Source:
    """The images at a location; raises what `open_source` does, ConfigError where the names cannot be read."""
    names = read_class_names(arguments.class_names)
    try:
        return open_source(location, arguments.split, class_names=names, unlabelled=unlabelled)
    except NoLabelsError as error:
        if not hasattr(arguments, "unlabelled"):  # the command has no such option: it needs what the store has
            raise DataError(error.found) from error
        raise


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text}, wanted a whole number from 1 on")
    return int(text)
