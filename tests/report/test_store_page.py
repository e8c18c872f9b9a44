"""`pld inspect --html`: what the page says of whole, unfinished and damaged stores, and the figures behind it."""

import itertools
import re

import numpy as np
import pytest

from pld.cli.main import main
from pld.report.measures.agreement import measure_agreement, rank_agreement
from pld.store import open_store
from tests.store.world import World


def page_of(monkeypatch, store, folder, *more):
    """The exit status and the page's HTML."""
    monkeypatch.setattr("sys.argv", ["pld", "inspect", str(store), "--html", str(folder / "out/page.html"), *more])
    return main(), (folder / "out/page.html").read_text()


def assert_alone(page):
    assert not re.search(r"""(src|href)=["'](?!data:)(?!#)""", re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL))


def slow_agreement(classes):
    """In Python sets, one pair of views of one sample after another."""
    num_views, num_samples, num_ranks = classes.shape
    same, overlap = np.zeros(num_ranks), np.zeros(num_ranks)
    pairs = list(itertools.combinations(range(num_views), 2))
    for (a, b), sample, r in itertools.product(pairs, range(num_samples), range(1, num_ranks + 1)):
        first, second = set(classes[a, sample, :r].tolist()), set(classes[b, sample, :r].tolist())
        same[r - 1] += first == second
        overlap[r - 1] += len(first & second) / r
    return same / len(pairs) / num_samples, overlap / len(pairs) / num_samples


def test_agreement_is_what_sets_say():
    rng = np.random.default_rng(0)
    classes = np.stack([[rng.permutation(9)[:6] for _ in range(20)] for _ in range(4)])
    for fast, slow in zip(rank_agreement(classes), slow_agreement(classes), strict=True):
        np.testing.assert_allclose(fast, slow)
    same, overlap = rank_agreement(np.stack([classes[0]] * 2))
    assert same.tolist() == overlap.tolist() == [1.0] * 6


def test_agreement_of_a_store(tmp_path):
    world = World(sizes=(5, 9, 3))
    world.write(tmp_path, 3)
    found = measure_agreement(open_store(str(tmp_path)))
    classes = np.stack(
        [np.concatenate([world.signal(shard.name, view).classes for shard in world.shards]) for view in range(3)]
    )
    np.testing.assert_allclose(found.same, slow_agreement(classes)[0])
    assert (found.num_samples, found.views) == (17, (0, 1, 2))
    world.write(tmp_path / "one", 1)
    assert measure_agreement(open_store(str(tmp_path / "one"))) is None


def test_every_byte_is_accounted_for(tmp_path):
    World().write(tmp_path, 4, block_views=3)
    spent = open_store(str(tmp_path)).array_bytes
    files = [path for folder in ("parts", "commits") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    assert sum(spent.values()) == sum(path.stat().st_size for path in files)
    assert {"classes", "logprobs", "keys", "labels", "container", "commits"} <= set(spent)


def test_a_whole_store(tmp_path, monkeypatch, capsys):
    World(k=6).write(tmp_path / "store", 4, block_views=3)
    status, page = page_of(monkeypatch, tmp_path / "store", tmp_path)
    assert status == 0
    assert f"page: {tmp_path}/out/page.html" in capsys.readouterr().out
    assert_alone(page)
    assert page.count("<svg") == 3
    for fact in (
        "6 of 6 parts are committed, 2 of 2 blocks sealed.",
        "Tail mass",
        "17 images",
        "first five",
        "container",
    ):
        assert fact in page, fact


def test_an_unfinished_and_a_damaged_store_have_a_page_too(tmp_path, monkeypatch, capsys):
    world = World()
    writer = world.open_writer(tmp_path / "store")
    parts = writer.missing_parts(4, block_views=3)
    status, page = page_of(monkeypatch, tmp_path / "store", tmp_path)
    assert status == 2
    assert "0 of 6 parts are committed, 0 of 2 blocks sealed; 6 not cached yet." in page
    world.write_part(writer, parts[0])
    status, page = page_of(monkeypatch, tmp_path / "store", tmp_path)
    assert status == 2
    assert "first views are not complete yet" in capsys.readouterr().err
    assert "1 of 6 parts are committed" in page
    [world.write_part(writer, part) for part in parts[1:]]
    writer.seal()
    (tmp_path / "store" / parts[4].commit_name).unlink()
    status, page = page_of(monkeypatch, tmp_path / "store", tmp_path)
    assert status == 2
    assert "5 of 6 parts are committed, 2 of 2 blocks sealed; 1 lost: cache or copy them again." in page
    assert f"{parts[4].commit_name}: gone" in page
    assert_alone(page)


@pytest.mark.parametrize("k", [4, 20])
def test_what_a_store_has_nothing_to_say_of_is_left_out(tmp_path, monkeypatch, k):
    World(k=k).write(tmp_path / "store", 1)
    _, page = page_of(monkeypatch, tmp_path / "store", tmp_path)
    assert "Rank agreement" not in page
    assert ("<h2>Tail mass</h2>" in page) == (k < 20)
