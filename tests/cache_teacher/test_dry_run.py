"""cache-teacher --dry-run: what it says of a new store and of one to go on in, and that it writes nothing."""

import re

import pytest

from cache_teacher import dry_run
from cache_teacher.cache import main as cache_main
from pld.config import run
from tests.cache_teacher.test_cache import arguments
from tests.store.world import tree


def line(text, label):
    """What stands behind a row's label."""
    (found,) = re.findall(rf"^{label}  +(.*)$", text, flags=re.MULTILINE)
    return found


def dry(world, store, capsys, **settings):
    before = tree(world)
    status = run(cache_main, [*arguments(world, store, **settings), "--dry-run"])
    assert tree(world) == before
    return status, capsys.readouterr()


def test_a_new_store(world, tmp_path, capsys):
    status, said = dry(world, tmp_path / "s", capsys, views=12)
    assert status == 0
    assert list(tmp_path.iterdir()) == []
    assert said.out.startswith(f"{tmp_path / 's'}: a dry run, which writes nothing\n")
    assert line(said.out, "images") == f"71 in 3 shards, {world / 'data'}"
    assert line(said.out, "views") == "12 of each image, top 5 of 12 classes"
    assert line(said.out, "parts") == "6 of 6 are missing: a new store"
    assert line(said.out, "finished size").startswith("about 23.6 kB: 852 views x 27.7 bytes, as k = 5 takes on Image")
    pattern = r"(\d+) views in \S+ seconds, \S+ a second, after (\d+) to warm up"
    measured = re.fullmatch(pattern, line(said.out, "measured"))
    assert int(measured[1]) + int(measured[2]) == 12 * 71
    assert re.fullmatch(r"about \S+ seconds for the 852 missing views in one process; .*", line(said.out, "time"))
    assert re.fullmatch(r"\S+ [MG]B at most in this process", line(said.out, "memory"))


def test_a_sampled_tail_and_an_error_are_in_the_plan(world, tmp_path, capsys):
    _, said = dry(world, tmp_path / "s", capsys, views=12, tail_samples=4, error=0.1)
    assert line(said.out, "views") == (
        "12 of each image, top 5 of 12 classes, as many as an error of 0.1 asks for and 4 of the tail"
    )
    size = line(said.out, "finished size")
    assert size.startswith("at most 33.1 kB: 852 views x 38.8 bytes, as k = 5 and 4 of the tail takes on ImageNet")


def test_a_store_to_go_on_in(world, tmp_path, capsys):
    store = tmp_path / "s"
    assert run(cache_main, arguments(world, store, views=3)) == 0
    before = tree(store)
    status, said = dry(world, store, capsys, views=4)
    assert status == 0
    assert line(said.out, "parts") == "3 of 6 are missing: the store holds 3"
    assert line(said.out, "finished size").endswith("bytes, as its parts so far take")
    assert "for the 71 missing views" in line(said.out, "time")
    _, said = dry(world, store, capsys, views=3)
    assert line(said.out, "parts") == "0 of 3 are missing: the store holds 3"
    assert "measured" not in said.out
    assert tree(store) == before


def test_mixed_views_are_measured_and_compared(world, tmp_path, capsys):
    store, settings = tmp_path / "s", {"policy": "mixup-0.8,cutmix-1.0", "batch_size": 20}
    status, said = dry(world, store, capsys, views=3, **settings)
    assert status == 0
    measured = re.match(r"(\d+) views in .* after (\d+) to warm up", line(said.out, "measured"))
    assert int(measured[1]) + int(measured[2]) == 3 * 71
    assert run(cache_main, arguments(world, store, views=3, **settings)) == 0
    capsys.readouterr()
    status, said = dry(world, store, capsys, views=4, **settings)
    assert (status, "pixels" in said.err) == (0, False), said.err
    assert "for the 71 missing views" in line(said.out, "time")


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [({"k": 6}, "codec.k: the store has 5, this run wants 6"), ({"k": 13}, "has 12 classes here; choose at most")],
)
def test_what_would_stop_the_command_is_said(world, tmp_path, capsys, settings, wanted):
    assert run(cache_main, arguments(world, tmp_path / "s", views=1)) == 0
    status, said = dry(world, tmp_path / "s", capsys, **{"views": 1, **settings})
    assert status == 2
    assert wanted in said.err


def test_the_minute_begins_after_the_first_batch_and_ends(world, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(dry_run, "MEASURED_SECONDS", 0.0)
    status, said = dry(world, tmp_path / "s", capsys, views=10, batch_size=20)
    assert status == 0
    assert line(said.out, "measured").startswith("20 views in ")
    assert "starting included: there was one batch" in line(said.out, "measured")
    assert "for the 710 missing views" in line(said.out, "time")
