"""Plug-ins on the path of this process: found anew, and forgotten after the test."""

import sys

import pytest

from pld.plugins import OURS, registry
from tests.plugins.installing import install_example


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A folder on sys.path; plug-ins are looked for again, and what they leave is removed."""
    folder = tmp_path / "site"
    folder.mkdir()
    before = set(sys.modules)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(registry, "_is_loaded", False)
    monkeypatch.setattr(registry, "_loaded", {})
    monkeypatch.setattr(registry, "_failures", {})
    yield folder
    for each in registry._REGISTRIES:
        for name in [name for name in each.data if each.owner(name) != OURS]:
            del each[name]
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def example(path):
    """docs/examples/plugin, on the path."""
    return install_example(path)
