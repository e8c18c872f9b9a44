import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of indexes for each test, which then finds none of another's."""
    monkeypatch.setenv("PLD_CACHE", str(tmp_path / "cache"))
