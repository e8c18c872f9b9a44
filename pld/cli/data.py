"""Say what a dataset holds, find its broken images, or write it as tar shards; `pld data glyphs` also makes it."""

from __future__ import annotations

import argparse
import os

import numpy as np

from pld.cli.arguments import add_part, local_path, open_images
from pld.images import Source, open_source
from pld.images.check import find_broken_images
from pld.images.shards.write import write_shards
from pld.images.sources.image_files import format_counts
from pld.progress import progress
from pld.views import policy_to_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("location", help="glyphs, tar shards such as 'train-{0000..1023}.tar' (quoted), or a folder")
    add_part(parser)
    parser.add_argument(
        "--shards",
        type=local_path,
        metavar="FOLDER",
        help="write SPLIT-0000.tar, ... there, shuffled once; interrupted, the same command goes on",
    )
    parser.add_argument("--shard_samples", type=int, default=1250, help="samples in a shard (default: 1250)")
    parser.add_argument("--decode", action="store_true", help="decode every image, and name those that are broken")


def execute(arguments: argparse.Namespace) -> None:
    """Index it, which finds missing labels, repeated keys and truncated shards, and print its size.

    With --decode, SystemExit(1) where images cannot be decoded.
    """
    source = open_images(arguments.location, arguments)
    if arguments.shards is None:
        _describe(source, arguments.location, arguments.split)
    else:
        source = _write(source, arguments)
    if arguments.decode:
        _decode_all(source)


def _write(source: Source, arguments: argparse.Namespace) -> Source:
    """Write the shards and open them."""
    with progress(len(source), f"writing {arguments.shards}/{arguments.split}-*.tar") as bar:
        paths = write_shards(source, arguments.shards, arguments.split, arguments.shard_samples, bar.update)
    written = open_source(str(arguments.shards), arguments.split)
    _describe(written, str(arguments.shards), arguments.split)
    print(f"  from {arguments.location} into {len(paths):,} shards; now --data {arguments.shards}")
    _tell_more(source)
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


def _describe(source: Source, location: str, split: str) -> None:
    classes = f"{len(source.class_names)} named classes" if source.class_names else "classes without names"
    print(f"{location}, {split}: {len(source):,} images in {len(source.shards):,} shards, {classes}")
    first = source.labels[: source.shard_sizes[0]]
    mixed = f"{len(np.unique(first)):,} of them among the first shard's {len(first):,} images"
    print(f"  labels {source.labels.min()} to {source.labels.max()}, {mixed}")
    print(f"  views  {policy_to_json(source.policy)}")
    print(f"  first  {source.key(0)} in {source.files[0]}")
    _tell_more(source)


def _tell_more(source: Source) -> None:
    if source.left_out:
        print(f"  left out {format_counts(source.left_out)}")
    for note in source.notes:
        print(f"  {note}")
