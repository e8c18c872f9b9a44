"""Splits that share a folder of shards: no writer touches, takes or removes what is another's."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from pld.errors import OutputError
from pld.images import open_source
from pld.images.shards.progress import only_writer
from pld.images.shards.write import write_shards
from tests.images.sources.forms import making
from tests.processes import tree_bytes


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("PLD_CACHE", str(tmp_path / "cache"))
    return open_source(str(making.make_train_tar(tmp_path / "ILSVRC2012_img_train.tar")))


def shard(source, out, split="train", samples=9, stop_at=None):
    done = 0

    def count(num):
        nonlocal done
        done += num
        if stop_at is not None and done > stop_at:
            raise KeyboardInterrupt

    write_shards(source, out, split, samples, count)
    return tree_bytes(out)


def interrupt(source, out, split="train", samples=9):
    with pytest.raises(KeyboardInterrupt):
        shard(source, out, split, samples, stop_at=20)


def test_a_split_whose_name_begins_another_s_is_gone_on_with(source, tmp_path):
    for split in ("birds", "birds-b"):
        shard(source, tmp_path / "undisturbed", split)
    interrupt(source, tmp_path / "out", "birds")
    shard(source, tmp_path / "out", "birds-b")
    assert shard(source, tmp_path / "out", "birds") == tree_bytes(tmp_path / "undisturbed")


def test_shards_beside_a_record_that_is_not_complete_are_refused_and_the_advice_holds(source, tmp_path):
    wanted = shard(source, tmp_path / "undisturbed")
    interrupt(source, tmp_path / "out")
    stray = tmp_path / "out" / "train-0000.tar"
    stray.write_bytes(b"truncated")
    with pytest.raises(OutputError, match=r"has .train-0000.tar., but 21 of 60 samples .* remove these shards"):
        shard(source, tmp_path / "out")
    stray.unlink()
    assert shard(source, tmp_path / "out") == wanted


def test_the_advice_to_begin_anew_leaves_other_splits_alone(source, tmp_path):
    out = tmp_path / "out"
    for split in ("train", "other"):
        interrupt(source, out, split, samples=5)
    with pytest.raises(OutputError, match=r"remove .*unfinished/train.json to begin anew"):
        shard(source, out, samples=9)
    (out / "unfinished" / "train.json").unlink()
    shard(source, out, samples=9)
    shard(source, out, "other", samples=5)
    shard(source, tmp_path / "undisturbed", samples=9)
    assert tree_bytes(out) == shard(source, tmp_path / "undisturbed", "other", samples=5)


def test_what_is_refused_leaves_nothing(source, tmp_path):
    before = shard(source, tmp_path / "out")
    with pytest.raises(OutputError, match="has 7 shards of train already"):
        shard(source, tmp_path / "out", samples=30)
    assert tree_bytes(tmp_path / "out") == before
    assert not (tmp_path / "out" / "unfinished").exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_filesystem_without_locks_needs_none(number, source, tmp_path, monkeypatch):
    wanted = shard(source, tmp_path / "undisturbed")

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert shard(source, tmp_path / "out") == wanted


def test_a_lock_that_cannot_be_opened_is_done_without(source, tmp_path):
    lock = tmp_path / "out" / "unfinished" / "train.lock"
    lock.mkdir(parents=True)
    shard(source, tmp_path / "out")
    assert len(open_source(str(tmp_path / "out"))) == len(source)


def test_a_lock_that_its_holder_removed_is_not_held(tmp_path, monkeypatch):
    """Who waits on a removed file must not write beside who has locked the new one."""
    path, flock, opened = tmp_path / "out" / "train.lock", fcntl.flock, []

    def remove_first(descriptor, operation):
        opened.append(os.fstat(descriptor).st_ino)
        if len(opened) == 1:
            path.rename(tmp_path / "removed")
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with only_writer(path):
        assert len(opened) == 2
        assert path.stat().st_ino == opened[1] != opened[0]
        with pytest.raises(OutputError, match="another process"), only_writer(path):
            pass
    assert not path.parent.exists()


LOCKING = """
import sys
from pathlib import Path
from pld.images.shards.progress import only_writer
for _ in range(2000):
    with only_writer(Path(sys.argv[1])) as held:
        assert Path(sys.argv[1]).exists()
"""


def test_splits_written_at_once_do_not_lose_their_folder(tmp_path):
    paths = [tmp_path / "out" / "unfinished" / f"{split}.lock" for split in ("train", "val")]
    running = [subprocess.Popen([sys.executable, "-c", LOCKING, str(path)]) for path in paths]
    assert [each.wait(60) for each in running] == [0, 0]


def test_a_split_that_is_dealt_in_another_way_is_finished(source, tmp_path, monkeypatch):
    """As the version before dealt it."""
    monkeypatch.setattr("pld.images.shards.plan.permutation", lambda num, name: making.np.arange(num)[::-1])
    before = shard(source, tmp_path / "out")
    monkeypatch.undo()
    assert before != shard(source, tmp_path / "undisturbed")
    assert shard(source, tmp_path / "out") == before


def test_what_differs_is_said(source, tmp_path):
    shard(source, tmp_path / "out")
    other = source.map_labels([1, 0, *range(2, len(making.WNIDS))], source.class_names)
    with pytest.raises(OutputError, match=r"10 other labels, the first of .*: 0, wanted 1|10 other labels.*: 1, want"):
        shard(other, tmp_path / "out")
    (tmp_path / "out" / "train-0003.tar").write_bytes((tmp_path / "out" / "train-0004.tar").read_bytes())
    with pytest.raises(OutputError, match=r"9 are not in the shards, the first n\d+_\d+; remove these"):
        shard(source, tmp_path / "out")
