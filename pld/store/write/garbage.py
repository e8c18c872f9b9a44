"""What killed writers left behind, and which of it can go while others still write.

A leftover is garbage once the object it was for exists. In a block whose commits are all there, so is every leftover
and every part that no commit names: a writer still busy there has lost, and finds its winner's commit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pld.store.documents.commit import read_commit
from pld.store.documents.manifest import Manifest
from pld.store.format.blocks import Block
from pld.store.objects.storage import Storage


def sweep(storage: Storage, manifest: Manifest, complete: Sequence[Block]) -> None:
    """Delete what `plan_sweep` names in a store whose blocks `complete` are."""
    objects, leftovers = storage.list(""), storage.leftovers()
    committed = {}
    for block in complete:
        # As many parts as commits, each named by one, leave nothing to look for: the commits need not be read.
        if sum(_folder(name) == block.parts_folder for name in [*objects, *leftovers]) != len(manifest.shards):
            commits = [read_commit(storage, manifest, part) for part in manifest.parts(block)]
            committed[block.parts_folder] = {commit.part_name for commit in commits}
    for name in plan_sweep(objects, leftovers, committed):
        storage.delete(name)


def plan_sweep(
    objects: Collection[str], leftovers: Mapping[str, str], committed_parts: Mapping[str, Collection[str]]
) -> list[str]:
    """Names to delete.

    Args:
        objects: the store's objects.
        leftovers: where each unfinished object lies, and the name it was for.
        committed_parts: for the folder of each complete block's parts, the parts that commits name.
    """
    present = set(objects)
    unfinished = [name for name, target in leftovers.items() if target in present or _folder(target) in committed_parts]
    unnamed = [
        name for name in objects if _folder(name) in committed_parts and name not in committed_parts[_folder(name)]
    ]
    return sorted(unfinished + unnamed)


def _folder(name: str) -> str:
    return name.rpartition("/")[0]
