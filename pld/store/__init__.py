"""Stores of teachers' top-k logits: see FORMAT.md for the bytes."""

from pld.store.commit import Commit
from pld.store.formats import FormatName
from pld.store.group import Combine, GroupTable, StoreGroup, open_stores
from pld.store.identity import (
    ClassMap,
    CodecIdentity,
    DatasetIdentity,
    Decoder,
    Identity,
    TeacherIdentity,
    ViewIdentity,
    dataset_digest,
)
from pld.store.manifest import Manifest, Shard, find_manifest
from pld.store.plan import Block, PartId, plan_parts
from pld.store.probes import Probe
from pld.store.reader import Store, open_store
from pld.store.samples import key_array
from pld.store.stats import PartStats
from pld.store.table import LogitTable
from pld.store.writer import StoreWriter

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
    "key_array",
    "open_store",
    "open_stores",
    "plan_parts",
]
