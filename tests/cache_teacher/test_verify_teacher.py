"""pld verify --teacher: the teacher that was cached agrees; one with other pixels or weights does not."""

import dataclasses

import pytest

from pld.cli.main import _main
from pld.config import run
from pld.images import open_source
from pld.join.recheck_teacher import rerun_teacher
from pld.store import open_store
from pld.teachers import build_teacher
from tests.making import make_dataset, make_store, make_teacher


@pytest.fixture(scope="module")
def stored(world, tmp_path_factory):
    return str(make_store(world, str(tmp_path_factory.mktemp("stored") / "s"), views=2, k=5))


def verify(stored, *more):
    return run(_main, ["verify", stored, *map(str, more)])


def test_the_teacher_that_was_cached_agrees(world, stored, capsys):
    assert verify(stored, "--teacher", f"local-dir:{world / 'teacher'}", "--data", world / "data") == 0
    assert "on 64 samples the teacher's probabilities differ by" in capsys.readouterr().out
    teacher = build_teacher(f"local-dir:{world / 'teacher'}")
    agreement = rerun_teacher(open_store(stored), open_source(str(world / "data")), teacher, 40)
    assert (agreement.num_rows, agreement.max_l1 <= agreement.rounding + 1e-4) == (40, True)


def test_a_teacher_with_other_weights_is_refused(world, stored, tmp_path, capsys):
    make_teacher(tmp_path / "other", seed=1)
    assert verify(stored, "--teacher", f"local-dir:{tmp_path / 'other'}", "--data", world / "data") == 2
    assert "this teacher is resnet18 with" in capsys.readouterr().err


def test_other_pixels_under_the_same_keys_are_a_problem(world, stored, tmp_path, capsys):
    data = make_dataset(tmp_path / "data")
    source = open_source(str(data))
    for path in data.glob("train-*.tar"):  # every image's bytes, not its key or label
        raw = path.read_bytes()
        image = source.read(0)
        for row in range(1, len(source)):
            other = source.read(row)
            raw = raw.replace(other, (image + bytes(len(other)))[: len(other)])
        path.write_bytes(raw)
    with pytest.raises(SystemExit) as caught:
        _main(["verify", stored, "--teacher", f"local-dir:{world / 'teacher'}", "--data", str(data), "--samples", "30"])
    assert caught.value.code == 1
    assert "does not see the pixels that were cached" in capsys.readouterr().out


def test_a_teacher_that_is_fed_otherwise_is_seen(world, stored):
    teacher = build_teacher(f"local-dir:{world / 'teacher'}")
    preprocessing = dataclasses.replace(teacher.preprocessing, mean=(0.2, 0.2, 0.2))
    fed_otherwise = dataclasses.replace(teacher, preprocessing=preprocessing)
    agreement = rerun_teacher(open_store(stored), open_source(str(world / "data")), fed_otherwise, 40)
    assert agreement.mean_l1 > 0.05
