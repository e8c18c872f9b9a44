"""Stores of teachers' top-k logits; FORMAT.md has the bytes."""

from pld.store.documents.commit import Commit
from pld.store.documents.manifest import FormatName, Manifest, Shard, find_manifest
from pld.store.documents.probes import Probe
from pld.store.format.blocks import Block, PartId
from pld.store.format.identity import (
    ClassMap,
    CodecIdentity,
    DatasetIdentity,
    Decoder,
    Identity,
    TeacherIdentity,
    ViewIdentity,
    dataset_digest,
    grid_for,
)
from pld.store.format.samples import key_array
from pld.store.format.stats import PartStats
from pld.store.read.group import Combine, GroupTable, StoreGroup, open_stores
from pld.store.read.reader import Store, open_store
from pld.store.read.table import LogitTable
from pld.store.write.writer import StoreWriter

__all__ = [
    "Block",
    "ClassMap",
    "CodecIdentity",
    "Combine",
    "Commit",
    "DatasetIdentity",
    "Decoder",
    "FormatName",
    "GroupTable",
    "Identity",
    "LogitTable",
    "Manifest",
    "PartId",
    "PartStats",
    "Probe",
    "Shard",
    "Store",
    "StoreGroup",
    "StoreWriter",
    "TeacherIdentity",
    "ViewIdentity",
    "dataset_digest",
    "find_manifest",
    "grid_for",
    "key_array",
    "open_store",
    "open_stores",
]
