import pytest
from accelerate.state import AcceleratorState

from tests.border.colours import sure_teacher


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PLD_CACHE", str(tmp_path / "pld-cache"))
    AcceleratorState._reset_state(True)


@pytest.fixture(scope="package")
def teacher(tmp_path_factory):
    """A teacher of the eight colours, by name."""
    return sure_teacher(tmp_path_factory.mktemp("teacher") / "named")


@pytest.fixture(scope="package")
def nameless(tmp_path_factory):
    """The same without names."""
    return sure_teacher(tmp_path_factory.mktemp("teacher") / "nameless", stated=False)
