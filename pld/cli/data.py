"""Say what a dataset holds, find its broken images, show its views, or write it as tar shards."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

from pld.classes.names import read_class_names
from pld.cli.arguments import add_part, local_path, positive
from pld.errors import ConfigError
from pld.files import writing
from pld.images import Source, open_source
from pld.images.check import find_broken_images
from pld.images.open_reader import open_reader
from pld.images.reader import ImageReader
from pld.images.shards.encoding import Encoding
from pld.images.shards.write import write_shards
from pld.images.sources.image_files import format_counts
from pld.join.mixing import ask_policy, plan_mixing
from pld.progress import progress
from pld.report.view_sheet import draw_sheet
from pld.views import policy_to_json

_SHEET, _VIEWS = Path("views.png"), 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "location",
        help="glyphs, tar shards such as 'train-{0000..1023}.tar' (quoted), a folder, or a form of docs/imagenet.md",
    )
    add_part(parser)
    parser.add_argument("--unlabelled", action="store_true", help="every image of the split, without labels")
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="the labels of images without class folders: a CSV of "
        "path,label lines, LOC_val_solution.csv or ImageNet's devkit archive",
    )
    parser.add_argument(
        "--shards",
        type=local_path,
        metavar="FOLDER",
        help="write SPLIT-0000.tar, ... there, shuffled once; interrupted, the same command goes on",
    )
    parser.add_argument("--shard_samples", type=int, default=1250, help="samples in a shard (default: 1250)")
    parser.add_argument(
        "--longest_side",
        type=positive,
        metavar="PIXELS",
        help="with --shards: resize images with a longer side, and write all as JPEGs (default: keep their bytes)",
    )
    parser.add_argument(
        "--quality", type=positive, help="with --longest_side: of the JPEGs that are written, 1 to 100 (default: 90)"
    )
    parser.add_argument("--decode", action="store_true", help="decode every image, and name those that are broken")
    parser.add_argument(
        "--show", type=positive, metavar="N", help="draw views of N images as a student will see them, into a picture"
    )
    parser.add_argument(
        "--policy", help="with --show: how views are drawn, as cache-teacher's (default: the dataset's)"
    )
    parser.add_argument("--views", type=positive, help="with --show: views of each image (default: 4)")
    parser.add_argument(
        "--out", type=local_path, metavar="FILE", help="with --show: the picture to write (default: views.png)"
    )


def execute(arguments: argparse.Namespace) -> None:
    """Index it, which finds missing labels, repeated keys and truncated shards, and print its size.

    With --decode, SystemExit(1) where images cannot be decoded.
    """
    encoding = _encoding(arguments)
    _check_show(arguments)
    names = read_class_names(arguments.class_names)
    reader = open_reader(
        arguments.location,
        arguments.split,
        class_names=names,
        labels=arguments.labels,
        unlabelled=arguments.unlabelled,
    )
    if arguments.shards is None:
        _describe(reader, arguments.location, arguments.split)
    else:
        reader = _write(reader, arguments, encoding)
    for option in ("decode", "show"):
        if getattr(arguments, option) and not isinstance(reader, Source):
            raise ConfigError(
                f"--{option}: {arguments.location} cannot be decoded in place; add --shards OUT to decode the shards"
            )
    if isinstance(reader, Source) and arguments.show:
        _show(reader, arguments)
    if isinstance(reader, Source) and arguments.decode:
        _decode_all(reader)


def _encoding(arguments: argparse.Namespace) -> Encoding | None:
    """What --longest_side and --quality ask for.

    Raises:
        ConfigError: one is given without the option it depends on.
    """
    if arguments.longest_side is None:
        if arguments.quality is not None:
            raise ConfigError("--quality applies only to resized images: add --longest_side, such as 500")
        return None
    if arguments.shards is None:
        raise ConfigError("--longest_side applies only when shards are written: add --shards FOLDER")
    if arguments.quality is None:
        return Encoding(longest_side=arguments.longest_side)
    return Encoding(longest_side=arguments.longest_side, quality=arguments.quality)


def _check_show(arguments: argparse.Namespace) -> None:
    """Raise ConfigError if --policy, --views or --out are given without --show, or the picture is of no known kind."""
    for option in ("policy", "views", "out"):
        if arguments.show is None and getattr(arguments, option) is not None:
            raise ConfigError(f"--{option} applies only to the views that are drawn: add --show, such as --show 8")
    out = arguments.out or _SHEET
    if arguments.show and out.suffix.lower() != ".png":
        raise ConfigError(f"--out {out}: wanted the name of a PNG file, such as views.png")


def _show(source: Source, arguments: argparse.Namespace) -> None:
    """Draw some views into a picture."""
    policy, text = source.policy, arguments.policy
    if text is not None:
        policy = ask_policy(text, policy, source)
    title = f"{source.location}, {arguments.split}: {text or policy_to_json(policy)}"
    plan, out, num_views = plan_mixing(source, policy), arguments.out or _SHEET, arguments.views or _VIEWS
    sheet = draw_sheet(source, policy, plan, title, num_images=arguments.show, num_views=num_views)
    with writing(out):
        sheet.save(out)
    print(f"views of {min(arguments.show, len(source))} images: {out}")


def _write(reader: ImageReader, arguments: argparse.Namespace, encoding: Encoding | None) -> Source:
    """Write the shards and open them."""
    with progress(len(reader.keys), f"writing {arguments.shards}/{arguments.split}-*.tar") as bar:
        paths = write_shards(
            reader,
            arguments.shards,
            arguments.split,
            arguments.shard_samples,
            bar.update,
            encoding=encoding,
            on_broken=bar.write,
        )
    written = open_source(str(arguments.shards), arguments.split, unlabelled=arguments.unlabelled)
    _describe(written, str(arguments.shards), arguments.split)
    more = " --unlabelled" if arguments.unlabelled else ""
    print(f"  from {arguments.location} into {len(paths):,} shards; now --data {arguments.shards}{more}")
    _tell_more(reader)
    return written


def _decode_all(source: Source) -> None:
    num = 0
    with progress(len(source), "decoding") as bar:
        for row, reason in find_broken_images(source, os.cpu_count() or 1, bar.update):
            bar.write(f"{source.key(row)}: {source.files[source.file_index[row]]}: {reason}")
            num += 1
    if num:
        print(f"{num:,} of {len(source):,} images cannot be decoded")
        raise SystemExit(1)
    print(f"all {len(source):,} images decode")


def _describe(source: ImageReader, location: str, split: str) -> None:
    classes = f"{len(source.class_names)} named classes" if source.class_names else "classes without names"
    if source.labels is None:
        classes = "without labels"
    print(f"{location}, {split}: {len(source.keys):,} images in {len(source.shard_sizes):,} shards, {classes}")
    if source.labels is not None:
        first = source.labels[: source.shard_sizes[0]]
        mixed = f"{len(np.unique(first)):,} of them among the first shard's {len(first):,} images"
        print(f"  labels {source.labels.min()} to {source.labels.max()}, {mixed}")
    print(f"  views  {policy_to_json(source.policy)}")
    print(f"  first  {source.where(0)}")
    _tell_more(source)


def _tell_more(source: ImageReader) -> None:
    if isinstance(source, Source) and source.left_out:
        print(f"  left out {format_counts(source.left_out)}")
    for note in source.notes:
        print(f"  {note}")
