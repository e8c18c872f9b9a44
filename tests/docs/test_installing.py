"""What messages, cards and pages say of installing is true of this repository."""

import re
import tomllib

import pytest

from pld.errors import ConfigError, DataError
from pld.extras import install_command, install_hint
from pld.remote.driver import RetryingDriver
from pld.report.card import dataset_card
from pld.store import open_store
from tests.processes import ROOT
from tests.store.world import World

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TEXTS = [
    path
    for pattern in ("*.md", "docs/*.md", "pld/**/*.py", "pld/**/*.md", "cache_teacher/**/*.py", "train_student/**/*.py")
    for path in sorted(ROOT.glob(pattern))
    if path.name != "CHANGELOG.md"
]


def test_nothing_says_that_an_index_has_it():
    assert len(TEXTS) > 100
    for path in TEXTS:
        assert not re.findall(r"pip install [^\n`]*pld[-_]distill(?!-)", path.read_text()), path


def test_every_extra_that_is_named_exists():
    told = "\n".join(path.read_text() for path in TEXTS)
    asked = re.findall(r"install_(?:hint|command)\([\"'](\w+)", told)
    written = [name for names in re.findall(r"pip install '\.\[([^\]{]+)\]'", told) for name in names.split(",")]
    assert {"report", "s3", "triton"} <= {*asked} & {*written}
    assert {*asked, *written} <= {*EXTRAS}


@pytest.mark.parametrize("extra", ["s3", "report", "triton"])
def test_a_hint_is_a_command_and_where_to_run_it(extra):
    assert install_hint(extra) == f"pip install '.[{extra}]' in a clone of pld-distill"
    assert install_command(extra) in install_hint(extra)


@pytest.mark.parametrize(
    ("url", "hint"),
    [("s3://bucket/x", r"pip install '\.\[s3\]' in a clone of pld-distill"), ("gs://bucket/x", "pip install gcsfs")],
)
@pytest.mark.parametrize("error", [ConfigError, DataError])
def test_a_driver_that_is_missing_is_asked_for(url, hint, error, monkeypatch):
    def missing(*_, **__):
        raise ImportError("Install the driver")

    monkeypatch.setattr("pld.remote.driver.url_to_fs", missing)
    with pytest.raises(error, match=f"^{url}: Install the driver: {hint}$"):
        RetryingDriver(url, error)


@pytest.mark.parametrize(
    ("url", "command"),
    [
        ("s3://bucket/store", "pip install '.[s3]'"),
        ("hf://datasets/me/it", "pip install ."),
        ("/a/folder", "pip install ."),
    ],
)
def test_a_card_says_how_to_install_what_reads_it(tmp_path, url, command):
    World().write(tmp_path, 1)
    card = dataset_card(open_store(str(tmp_path)), "other", url)
    assert f"\n    {command}    # in a clone of pld-distill\n    pld inspect {url}\n" in card
