"""A dataset on the local disk and behind a URL, and an empty cache."""

import json
import uuid

import pytest

from tests.making import make_dataset
from tests.remote.faults import SIZES, put


@pytest.fixture
def local(tmp_path):
    folder = make_dataset(tmp_path / "data", shard_sizes=SIZES)
    (folder / "dataset.json").write_text(json.dumps({"class_names": [f"c{i}" for i in range(12)]}))
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of cached shards, and nothing in it."""
    monkeypatch.setenv("PLD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shards"


@pytest.fixture
def memory(local, cache):
    url = f"memory://{uuid.uuid4().hex}/data"
    put(local, url)
    return url
