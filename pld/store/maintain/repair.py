"""What to delete of a damaged store so that caching again fills it, to the byte where the same machine caches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from pld.errors import CorruptStoreError, NotCachedError
from pld.store.documents.commit import read_commit
from pld.store.documents.layout import block_name, claim_block, seal_name
from pld.store.documents.manifest import MANIFEST_NAME, Manifest
from pld.store.maintain.verify import Problem
from pld.store.objects.storage import Storage


def plan_repair(storage: Storage, manifest: Manifest, problems: Iterable[Problem]) -> list[str]:
    """Names to delete: broken parts, their commits, the seals of their blocks, and broken seals and blocks' files.

    A commit goes with its part, for what a commit names is trusted; a seal, since it would call the gap a loss.
    store.json stays: without it nobody can say what to cache again.
    """
    names: set[str] = set()
    for problem in problems:
        if problem.name == MANIFEST_NAME:
            continue
        names.add(problem.name)
        if problem.block:
            names.add(seal_name(problem.block))
        if problem.part:
            names.add(problem.part.commit_name)
            # Where the commit cannot be read, the next seal sweeps the part away.
            with contextlib.suppress(CorruptStoreError, NotCachedError):
                names.add(read_commit(storage, manifest, problem.part).part_name)
    return sorted(name for name in names if storage.exists(name))


def repair(storage: Storage, names: Iterable[str], problems: Iterable[Problem]) -> None:
    """Delete what `plan_repair` gave, commits first, and write again what claims a block."""
    order = sorted(names, key=lambda name: (not name.startswith("commits/"), name))
    for name in order:
        storage.delete(name)
    for problem in problems:
        if problem.block and problem.name == block_name(problem.block.first):
            claim_block(storage, problem.block)
