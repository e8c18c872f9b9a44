"""A store of format 1, committed once: it is read forever, and what is written today is the same format.

For a new format only: `python -m tests.store.format.test_golden`, from the repository's root, makes the golden files.
"""

import dataclasses
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from pld.store import Commit, open_store
from pld.store.format.typed_json import parse_document
from tests.store.world import World

GOLDEN = Path(__file__).parents[2] / "golden"
FORMATS = ("zarr", "webdataset")


# What each kind of golden store holds: the word in its name, and the world's settings.
KINDS = {"": {}, "unlabelled": {"labelled": False}, "sampled": {"tail_samples": 3}, "error": {"error": 0.2}}


def golden_store(name, kind):
    """The golden store of a format and a kind."""
    return GOLDEN / "-".join(filter(None, ["store-v1", kind, "" if name == "zarr" else name]))


def golden_values(kind):
    """What both formats hold."""
    return GOLDEN / ("-".join(filter(None, ["store-v1", kind])) + ".json")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FixedWorld(World):
    """Labels and logits from integer arithmetic alone, which no library's version changes; the first default grid."""

    sizes: tuple[int, ...] = (3, 2)
    num_classes: int = 12
    k: int = 5

    @property
    def identity(self):
        identity = super().identity
        return dataclasses.replace(identity, codec=dataclasses.replace(identity.codec, grid=1 / 64))

    @property
    def labels(self):
        return np.arange(sum(self.sizes)) * 5 % self.num_classes

    def logits(self, shard, view):
        rows = self.rows(shard)
        row, column = np.arange(rows.start, rows.stop)[:, None], np.arange(self.num_classes)
        return torch.from_numpy((row * 7919 + column * 104_729 + view * 1_299_709) % 1009 / 100).float()


SAMPLE_FIELDS = ("classes", "logprobs", "threshold")


def values_of(root):
    """Everything a reader gets, as JSON."""
    store = open_store(str(root))
    tables = [store.load_view(view) for view in range(store.num_views)]
    topks = [table[np.arange(store.num_samples)] for table in tables]
    return {
        "keys": [key.decode() for key in store.keys.tolist()],
        "labels": _listed(store.labels),
        "classes": [topk.classes.tolist() for topk in topks],
        "logprobs": [topk.logprobs.tolist() for topk in topks],
        "label_logprob": [_listed(topk.label_logprob) for topk in topks],
        "tail_logmass": [topk.tail_logmass.tolist() for topk in topks],
        "logprob_error": topks[0].logprob_error,
        "fingerprint": store.manifest.identity.fingerprint,
        **{
            f"tail_{name}": [getattr(topk.tail_sample, name).tolist() for topk in topks]
            for name in SAMPLE_FIELDS
            if topks[0].tail_sample is not None
        },
        **({} if topks[0].counts is None else {"counts": [topk.counts.tolist() for topk in topks]}),
    }


def _listed(values):
    return None if values is None else values.tolist()


def inside_of(part):
    """The names in a part, and what is in those of JSON; of an .npz the .npy files as they are inflated."""
    if part.suffix == ".zip":
        with zipfile.ZipFile(part) as archive:
            names = archive.namelist()
            return [names, {name: archive.read(name).decode() for name in names if name.endswith("zarr.json")}]
    with tarfile.open(part, "r:") as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    for name in [name for name in members if name.endswith(".npz")]:
        with zipfile.ZipFile(io.BytesIO(members[name])) as archive:
            members[name] = {file: archive.read(file).hex() for file in archive.namelist()}
    return [list(members), {**members, "part.json": members["part.json"].decode()}]


def metadata_of(root):
    """All of a store's JSON, without the sizes and digests of compressed bytes: those are numcodecs' to change."""
    found = {path.name: path.read_text() for path in root.glob("*.json")}
    found |= {str(path.relative_to(root)): path.read_text() for path in root.glob("blocks/*.json")}
    for path in root.glob("commits/*/*.json"):
        commit = parse_document(Commit, path.read_bytes(), str(path))
        nothing = {"part": "", "part_bytes": 0, "part_sha256": "", "samples": (), "views": ()}
        found[str(path.relative_to(root))] = str(dataclasses.replace(commit, **nothing))
        found[str(path.relative_to(root)) + " part"] = json.dumps(inside_of(root / commit.part_name))
    found |= {str(path.relative_to(root)): str(sorted(json.loads(path.read_text()))) for path in root.glob("seals/*")}
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FORMATS)
def test_the_golden_store_is_read_as_ever(name, kind):
    assert values_of(golden_store(name, kind)) == json.loads(golden_values(kind).read_text())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_today_is_the_same_format(tmp_path, name, kind):
    golden = golden_store(name, kind)
    FixedWorld(format=name, **KINDS[kind]).write(tmp_path, 3, block_views=2)
    assert metadata_of(tmp_path) == metadata_of(golden)
    assert values_of(tmp_path) == values_of(golden)


if __name__ == "__main__":
    for kind, settings in KINDS.items():
        if golden_values(kind).exists():
            continue  # what was committed once is never written again
        for name in FORMATS:
            FixedWorld(format=name, **settings).write(golden_store(name, kind), 3, block_views=2)
        values = values_of(golden_store("zarr", kind))
        golden_values(kind).write_text(json.dumps(values) + "\n")
