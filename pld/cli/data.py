"""Say what a dataset holds; `pld data glyphs` also makes it."""

from __future__ import annotations

import argparse

from pld.images import open_source
from pld.views import policy_to_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("location", help="glyphs, tar shards such as 'train-{0000..1023}.tar' (quoted), or a folder")
    parser.add_argument("--split", default="train", help="which part of a folder (default: train)")


def execute(arguments: argparse.Namespace) -> None:
    """Index it, which finds missing labels, repeated keys and truncated shards, and print its size."""
    source = open_source(arguments.location, arguments.split)
    classes = f"{len(source.class_names)} named classes" if source.class_names else "classes without names"
    print(
        f"{arguments.location}, {arguments.split}: {len(source):,} images in {len(source.shards):,} shards, {classes}"
    )
    print(f"  labels {source.labels.min()} to {source.labels.max()}")
    print(f"  views  {policy_to_json(source.policy)}")
    print(f"  first  {source.key(0)} in {source.files[0]}")
