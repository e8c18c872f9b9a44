"""store.json: what the store is, where it came from, and which shards it has."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pld.errors import ConfigError, CorruptStoreError, FingerprintMismatchError, NotCachedError
from pld.store.format.arrays import ArraySpec
from pld.store.format.blocks import Block, PartId
from pld.store.format.canonical import dump_document, load_document, shown
from pld.store.format.identity import FORMAT_VERSION, Identity, NumSamples
from pld.store.format.schema import sample_arrays, view_arrays
from pld.store.format.typed_json import MAX_DOCUMENT_BYTES, SAFE_NAME, SafeName, check_nesting, parse
from pld.store.format.webdataset_part import NpyColumn, WebDatasetPart
from pld.store.format.zarr_part import ZarrPart
from pld.store.objects.open import open_storage
from pld.store.objects.storage import Storage

FormatName = Literal["zarr", "webdataset"]
_FORMATS: Mapping[FormatName, ZarrPart | WebDatasetPart] = {"zarr": ZarrPart(), "webdataset": WebDatasetPart()}

MANIFEST_NAME = "store.json"
_KIND = "pld-store"
_MAX_SHOWN = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """An image shard: its name without folder or extension, and how many samples it has."""

    name: SafeName
    num_samples: NumSamples


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of store.json, written once, when the store is created.

    Attributes:
        identity: what the numbers depend on.
        provenance: free JSON: versions, machine, date, command, git commit.
        shards: the dataset's image shards; rows follow their order, then the position in the shard.
        format: what its parts are; the numbers do not depend on it.

    Raises:
        ConfigError: a shard's name is not usable as a file name or comes twice, or the counts do not add up.
    """

    identity: Identity
    provenance: Mapping[str, Any]
    shards: tuple[Shard, ...]
    format: FormatName = "zarr"

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for shard in self.shards:
            if not SAFE_NAME.fullmatch(shard.name) or shard.name.casefold() in seen:
                raise ConfigError(f"shard {shard.name!r}: wanted a name of its own like {SAFE_NAME.pattern}")
            if shard.num_samples < 1:
                raise ConfigError(f"shard {shard.name!r}: found {shard.num_samples} samples, wanted at least one")
            seen.add(shard.name.casefold())
        found, wanted = sum(shard.num_samples for shard in self.shards), self.identity.dataset.num_samples
        if found != wanted:
            raise ConfigError(f"the shards hold {found} samples, the dataset {wanted}: they must be the same samples")

    @functools.cached_property
    def shards_by_name(self) -> Mapping[str, Shard]:
        """The shards, each under its name."""
        return {shard.name: shard for shard in self.shards}

    @property
    def part_format(self) -> ZarrPart | WebDatasetPart:
        """How its parts are laid out."""
        return _FORMATS[self.format]

    @property
    def is_labelled(self) -> bool:
        """Whether the samples have labels."""
        return self.identity.dataset.labelled

    @property
    def sample_arrays(self) -> tuple[str, ...]:
        """The names of the arrays of a part's samples, in their order."""
        return sample_arrays(self.identity)

    @property
    def view_arrays(self) -> tuple[str, ...]:
        """The names of the arrays of each of a part's views, in their order."""
        return view_arrays(self.identity)

    def columns(self, block: Block, num_rows: int, key_bytes: int) -> Mapping[str, ArraySpec | NpyColumn]:
        """The arrays of a part of num_rows samples, by name; key_bytes is the length of the longest key."""
        return self.part_format.columns(self.identity, block, num_rows, key_bytes)

    def view_bytes(self, block: Block, num_rows: int, key_bytes: int) -> int:
        """Decoded bytes of one view, or of the samples where they are more; a part has at most MAX_VIEW_BYTES."""
        columns = self.columns(block, num_rows, key_bytes)
        return max(sum(columns[name].chunk_bytes for name in n) for n in (self.sample_arrays, self.view_arrays))

    def parts(self, block: Block) -> list[PartId]:
        """A block's parts, in shard order."""
        return [PartId(block=block, shard=shard.name) for shard in self.shards]

    def dump(self) -> bytes:
        """The bytes of store.json."""
        return dump_document(
            {
                "kind": _KIND,
                "format_version": FORMAT_VERSION,
                "fingerprint": self.identity.fingerprint,
                "provenance": self.provenance,
                "identity": self.identity,
                "shards": self.shards,
                "format": self.format,
            }
        )

    @classmethod
    def load(cls, data: bytes, where: str) -> Manifest:
        """Parse and check store.json; raises CorruptStoreError naming the field at fault."""
        document = load_document(data, where)
        check_nesting(document, where)
        if (version := document.pop("format_version", None)) != FORMAT_VERSION:
            raise CorruptStoreError(
                f"{where}: format {shown(version)}; this version of pld reads {FORMAT_VERSION}: update it"
            )
        if (kind := document.pop("kind", None)) != _KIND:
            raise CorruptStoreError(f"{where}: found the kind {shown(kind)}, wanted {_KIND!r}")
        held = document.pop("fingerprint", None)
        manifest = parse(cls, document, where)
        if held != (true := manifest.identity.fingerprint):
            raise CorruptStoreError(f"{where}: it says the fingerprint {shown(held)}, its identity has {true}")
        return manifest

    def check_same(self, wanted: Manifest, where: str) -> None:
        """Refuse to go on in this store with other settings or shards.

        Raises:
            FingerprintMismatchError: shows every field that differs, both values.
        """
        found = list(differences(self._settings(), wanted._settings()))
        if found:
            lines = [f"  {name}: the store has {short(a)}, this run wants {short(b)}" for name, a, b in found]
            shown = "\n".join(
                lines[:_MAX_SHOWN] + [f"  and {len(lines) - _MAX_SHOWN} more"] * (len(lines) > _MAX_SHOWN)
            )
            raise FingerprintMismatchError(
                f"{where}: made with other settings (fingerprint {self.identity.fingerprint}, "
                f"this run's is {wanted.identity.fingerprint}):\n{shown}\n"
                "use the store's settings, or name another store"
            )

    def _settings(self) -> dict[str, Any]:
        shards = [dataclasses.asdict(shard) for shard in self.shards]
        return {"identity": self.identity.to_json(), "format": self.format, "shards": shards}


def check_and_dump(manifest: Manifest) -> bytes:
    """The bytes of store.json; raises ConfigError where they could not be read back."""
    try:
        data = manifest.dump()
        Manifest.load(data, "these settings")
    except (TypeError, ValueError, CorruptStoreError) as error:
        raise ConfigError(f"a store cannot hold these settings: {error}") from error
    return data


def read_manifest(storage: Storage) -> Manifest:
    """A store's manifest; raises NotCachedError where there is none, CorruptStoreError where it was changed."""
    where = f"{storage.url}/{MANIFEST_NAME}"
    try:
        data = storage.read(MANIFEST_NAME, MAX_DOCUMENT_BYTES)
    except NotCachedError:
        raise NotCachedError(f"{where}: there is no store; make one with `make cache`") from None
    return Manifest.load(data, where)


def find_manifest(url: str | os.PathLike[str]) -> Manifest | None:
    """The manifest of the store at a place, None where there is none yet; raises as `read_manifest` does."""
    storage = open_storage(url)
    return read_manifest(storage) if storage.exists(MANIFEST_NAME) else None


def differences(held: Any, ours: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Leaves of two JSON values that differ: dotted name, held, ours."""
    if isinstance(held, Mapping) and isinstance(ours, Mapping):
        for key in sorted({**held, **ours}):
            yield from differences(held.get(key), ours.get(key), f"{name}.{key}".removeprefix(".identity."))
    elif isinstance(held, list | tuple) and isinstance(ours, list | tuple) and len(held) == len(ours):
        for index, (a, b) in enumerate(zip(held, ours, strict=True)):
            yield from differences(a, b, f"{name}[{index}]")
    elif held != ours:
        yield name.removeprefix("."), held, ours


def short(value: Any) -> str:
    """A JSON value for a message."""
    text = f"{len(value)} entries" if isinstance(value, list | tuple) and len(value) > 8 else repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
