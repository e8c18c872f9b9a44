import pytest

from tests.end_to_end.colours import sure_teacher


@pytest.fixture(scope="package")
def teacher(tmp_path_factory):
    """A teacher of the eight colours, by name."""
    return sure_teacher(tmp_path_factory.mktemp("teacher") / "named")


@pytest.fixture(scope="package")
def nameless(tmp_path_factory):
    """The same without names."""
    return sure_teacher(tmp_path_factory.mktemp("teacher") / "nameless", stated=False)
