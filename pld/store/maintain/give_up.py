"""Giving up a store's last views: a plan of blocks, then deletions that leave a valid store after each of them.

A block loses its seal, then its commits, parts and leftovers, and last the file that claims it. What a kill leaves is
what a writer leaves that was killed: a store whose last block is not complete. The same command goes on there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from pld.errors import ConfigError, StoreError
from pld.prefetch import IO_THREADS
from pld.store.documents.layout import Layout, block_name, read_layout, seal_name
from pld.store.documents.manifest import Manifest
from pld.store.format.blocks import Block
from pld.store.objects.storage import Storage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """What giving up views deletes.

    Attributes:
        blocks: the blocks, the last one first.
        objects: the bytes of each of their objects, by its name in the store.
        num_parts: how many of their parts are committed.
        num_planned: how many parts they have when they are complete.
    """

    blocks: tuple[Block, ...]
    objects: Mapping[str, int]
    num_parts: int
    num_planned: int

    @property
    def num_bytes(self) -> int:
        """Of all objects."""
        return sum(self.objects.values())


def choose_blocks(layout: Layout, views: range, where: str) -> tuple[Block, ...]:
    """The blocks of these views, the last one first.

    Raises:
        ConfigError: the views are not the store's last ones, do not begin with a block, or are all that it has.
    """
    blocks, wanted = layout.blocks, f"--views {views.start}-{views.stop - 1}"
    held = ", ".join(f"{block.first}-{block.last}" for block in blocks) or "none"
    if not blocks or views.stop - 1 > blocks[-1].last:
        raise ConfigError(f"{where}: {wanted}: the store's blocks of views are {held}; name views that it has")
    last = blocks[-1].last
    if views.stop - 1 < last:
        raise ConfigError(
            f"{where}: {wanted}: only the last views can be given up, since readers need all from view 0 on; the "
            f"blocks are {held}: end with {last}"
        )
    if len(blocks) == 1 or views.start == 0:
        whole = "one block, which goes as a whole" if len(blocks) == 1 else "all that it has"
        raise ConfigError(
            f"{where}: {wanted}: the store's views 0-{last} are {whole}: to give up the whole store, remove its folder"
        )
    chosen = tuple(reversed([block for block in blocks if block.first >= views.start]))
    if not chosen or chosen[-1].first != views.start:
        starts = " or ".join(f"--views {block.first}-{last}" for block in blocks[1:])
        raise ConfigError(
            f"{where}: {wanted}: a block of views goes as a whole, and the blocks are {held}; give {starts}"
        )
    return chosen


def plan_loss(storage: Storage, manifest: Manifest, views: range) -> Loss:
    """What the store loses with these views, which is not deleted yet; raises as `choose_blocks`, and StoreError."""
    layout = read_layout(storage, manifest)
    blocks = choose_blocks(layout, views, storage.url)
    sizes = storage.sizes("")
    names = {name for block in blocks for name in _names_of(block, sizes)}
    committed = [part for part in layout.committed if part.block in blocks]
    return Loss(
        blocks=blocks,
        objects={name: sizes[name] for name in sorted(names)},
        num_parts=len(committed),
        num_planned=len(blocks) * len(manifest.shards),
    )


def give_up(storage: Storage, manifest: Manifest, loss: Loss, on_deleted: Callable[[], object]) -> None:
    """Delete what `plan_loss` gave.

    Args:
        storage: the store's.
        manifest: the store's.
        loss: what to delete.
        on_deleted: called after each object.

    Raises:
        StoreError: an object cannot be deleted, or a writer is adding parts: the store is valid, with fewer views.
    """
    _refuse_changed(storage, manifest, loss)
    with ThreadPoolExecutor(IO_THREADS) as pool:
        for block in loss.blocks:
            for names in _in_order(block, sorted(_names_of(block, loss.objects))):
                for _ in pool.map(storage.delete, names):
                    on_deleted()
            _clear_leftovers(storage, block)
            _refuse_new(storage, block)
            storage.delete(block_name(block.first))
            on_deleted()


def _names_of(block: Block, names: Iterable[str]) -> set[str]:
    """A block's objects."""
    alone = {seal_name(block), block_name(block.first)}
    folders = (f"commits/{block.name}/", f"{block.parts_folder}/")
    return {name for name in names if name in alone or name.startswith(folders)}


def _in_order(block: Block, names: list[str]) -> Iterator[list[str]]:
    """Objects that may be deleted at once, before those that follow; all but the block's own file."""
    yield [name for name in names if name == seal_name(block)]
    yield [name for name in names if name.startswith("commits/")]
    yield [name for name in names if name.startswith("parts/")]


def _clear_leftovers(storage: Storage, block: Block) -> None:
    for name, target in storage.leftovers().items():
        if _names_of(block, [target]):
            storage.delete(name)


def _refuse_changed(storage: Storage, manifest: Manifest, loss: Loss) -> None:
    """Raise StoreError where a writer has come further since the loss was planned."""
    blocks = read_layout(storage, manifest).blocks
    if blocks[-len(loss.blocks) :] != tuple(reversed(loss.blocks)):
        raise StoreError(f"{storage.url}: has other views now than a moment ago: {_WRITER}")
    for block in loss.blocks:
        _refuse_new(storage, block, loss.objects)


def _refuse_new(storage: Storage, block: Block, known: Mapping[str, int] | None = None) -> None:
    """Raise StoreError where the block has commits or parts that are not known."""
    for folder in (f"commits/{block.name}", block.parts_folder):
        if new := [name for name in storage.list(folder) if name not in (known or {})]:
            raise StoreError(f"{storage.url}/{new[0]}: was written a moment ago: {_WRITER}")


_WRITER = "a writer is at work in this store; stop it, then run the same command again"
