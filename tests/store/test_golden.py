"""A store of format 1, committed once: it is read forever, and what is written today is the same format.

The golden files are made by `python -m tests.store.test_golden` from the repository's root, for a new format only.
"""

import dataclasses
import json
import zipfile
from pathlib import Path

import numpy as np
import torch

from pld.store import Commit, open_store
from tests.store.world import World

GOLDEN = Path(__file__).parents[1] / "golden" / "store-v1"
VALUES = GOLDEN.with_suffix(".json")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FixedWorld(World):
    """Labels and logits from integer arithmetic alone, which no library's version changes."""

    sizes: tuple[int, ...] = (3, 2)
    num_classes: int = 12
    k: int = 5

    @property
    def labels(self):
        return np.arange(sum(self.sizes)) * 5 % self.num_classes

    def logits(self, shard, view):
        rows = self.rows(shard)
        row, column = np.arange(rows.start, rows.stop)[:, None], np.arange(self.num_classes)
        return torch.from_numpy((row * 7919 + column * 104_729 + view * 1_299_709) % 1009 / 100).float()


def values_of(root):
    """Everything a reader gets, as JSON."""
    store = open_store(str(root))
    tables = [store.load_view(view) for view in range(store.num_views)]
    topks = [table[np.arange(store.num_samples)] for table in tables]
    return {
        "keys": [key.decode() for key in store.keys.tolist()],
        "labels": store.labels.tolist(),
        "classes": [topk.classes.tolist() for topk in topks],
        "logprobs": [topk.logprobs.tolist() for topk in topks],
        "label_logprob": [topk.label_logprob.tolist() for topk in topks],
        "tail_logmass": [topk.tail_logmass.tolist() for topk in topks],
        "logprob_error": topks[0].logprob_error,
        "fingerprint": store.manifest.identity.fingerprint,
    }


def metadata_of(root):
    """All of a store's JSON, without the sizes and digests of compressed bytes: those are numcodecs' to change."""
    found = {path.name: path.read_text() for path in root.glob("*.json")}
    found |= {str(path.relative_to(root)): path.read_text() for path in root.glob("blocks/*.json")}
    for path in root.glob("commits/*/*.json"):
        commit = Commit.load(path.read_bytes(), str(path))
        nothing = {"part": "", "part_bytes": 0, "part_sha256": "", "samples": (), "views": ()}
        found[str(path.relative_to(root))] = str(dataclasses.replace(commit, **nothing))
        with zipfile.ZipFile(root / commit.part_name) as part:
            names = part.namelist()
            inside = {name: part.read(name).decode() for name in names if name.endswith("zarr.json")}
        found[str(path.relative_to(root)) + " part"] = json.dumps([names, inside])
    found |= {str(path.relative_to(root)): str(sorted(json.loads(path.read_text()))) for path in root.glob("seals/*")}
    return found


def test_the_golden_store_is_read_as_ever():
    assert values_of(GOLDEN) == json.loads(VALUES.read_text())


def test_what_is_written_today_is_the_same_format(tmp_path):
    FixedWorld().write(tmp_path, 3, block_views=2)
    assert metadata_of(tmp_path) == metadata_of(GOLDEN)
    assert values_of(tmp_path) == values_of(GOLDEN)


if __name__ == "__main__":
    FixedWorld().write(GOLDEN, 3, block_views=2)
    VALUES.write_text(json.dumps(values_of(GOLDEN)) + "\n")
