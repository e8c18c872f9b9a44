"""Say what a dataset holds, or write it as tar shards; `pld data glyphs` also makes it."""

from __future__ import annotations

import argparse

import numpy as np

from pld.cli.arguments import local_path
from pld.images import Source, open_source
from pld.images.sharding import write_shards
from pld.progress import progress
from pld.views import policy_to_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("location", help="glyphs, tar shards such as 'train-{0000..1023}.tar' (quoted), or a folder")
    parser.add_argument("--split", default="train", help="which part of a folder (default: train)")
    parser.add_argument(
        "--shards",
        type=local_path,
        metavar="FOLDER",
        help="write SPLIT-0000.tar, ... there, shuffled once; interrupted, the same command goes on",
    )
    parser.add_argument("--shard_samples", type=int, default=1250, help="samples in a shard (default: 1250)")


def execute(arguments: argparse.Namespace) -> None:
    """Index it, which finds missing labels, repeated keys and truncated shards, and print its size."""
    source = open_source(arguments.location, arguments.split)
    if arguments.shards is None:
        _describe(source, arguments.location, arguments.split)
        return
    with progress(len(source), f"writing {arguments.shards}/{arguments.split}-*.tar") as bar:
        paths = write_shards(source, arguments.shards, arguments.split, arguments.shard_samples, bar.update)
    _describe(open_source(str(arguments.shards), arguments.split), str(arguments.shards), arguments.split)
    print(f"  from {arguments.location} into {len(paths):,} shards; now --data {arguments.shards}")


def _describe(source: Source, location: str, split: str) -> None:
    classes = f"{len(source.class_names)} named classes" if source.class_names else "classes without names"
    print(f"{location}, {split}: {len(source):,} images in {len(source.shards):,} shards, {classes}")
    first = source.labels[: source.shard_sizes[0]]
    mixed = f"{len(np.unique(first)):,} of them among the first shard's {len(first):,} images"
    print(f"  labels {source.labels.min()} to {source.labels.max()}, {mixed}")
    print(f"  views  {policy_to_json(source.policy)}")
    print(f"  first  {source.key(0)} in {source.files[0]}")
