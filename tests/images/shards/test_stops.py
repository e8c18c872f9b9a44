"""Writing shards through kills, interrupts, full disks and few file descriptors comes to the same bytes."""

import fcntl
import json
import os

import pytest

from pld.errors import OutputError
from pld.images import open_source
from pld.images.open_reader import open_reader
from pld.images.shards import write
from pld.images.shards.encoding import Encoding
from pld.images.shards.growing_tars import GrowingTars
from pld.images.shards.progress import Progress
from tests.images.sources.forms import making
from tests.processes import python, tree_bytes


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLD_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def source(tmp_path):
    return open_source(str(making.make_train_tar(tmp_path / "ILSVRC2012_img_train.tar")))


def shard(source, out, on_images=lambda num: None, **settings):
    write.write_shards(source, out, "train", 9, on_images, **settings)
    return tree_bytes(out)


class Stop:
    """Raises after some samples."""

    def __init__(self, samples, error):
        self.left, self.error = samples, error

    def __call__(self, num):
        self.left -= num
        if self.left < 0:
            raise self.error


# Each child of this process kills itself after some samples more; progress is saved now and then.
KILLS = """
import os, signal, sys
from pathlib import Path
from pld.images.open_reader import open_reader
from pld.images.shards import write

location, out, save_bytes = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
write._SAVE_BYTES = save_bytes
for samples in (0, 1, 2, 7, 20, 35, 59, 60, None):
    child = os.fork()
    if child == 0:
        done = 0
        def on_images(num):
            global done
            done += num
            if samples is not None and done > samples:
                os.kill(os.getpid(), signal.SIGKILL)
        write.write_shards(open_reader(location, "train"), out, "train", 9, on_images)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("form", ["tar", pytest.param("parquet", marks=pytest.mark.long)])
def test_killed_at_any_sample_it_comes_to_the_same_bytes(form, source, tmp_path):
    location = tmp_path / "ILSVRC2012_img_train.tar" if form == "tar" else making.make_parquet(tmp_path / "parquet")
    done = python("-c", KILLS, location, tmp_path / "out", "3000", cwd=tmp_path)
    codes = list(map(int, done.stdout.split()))
    assert codes[:7] == [-9] * 7
    assert codes[-1] == 0
    held = tree_bytes(tmp_path / "out")
    assert sorted(held) == ["dataset.json", *(f"train-000{i}.tar" for i in range(7))]
    assert held == shard(open_reader(str(location), "train"), tmp_path / "undisturbed")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device"), MemoryError()])
def test_stopped_at_each_sample_it_goes_on(error, source, tmp_path):
    wanted = shard(source, tmp_path / "undisturbed")
    for _ in range(200):
        try:
            held = shard(source, tmp_path / "out", Stop(json_done(tmp_path / "out") + 3, error))
            break
        except type(error):
            continue
    assert held == wanted


def json_done(out):
    record = out / "unfinished" / "train.json"
    return json.loads(record.read_text())["done"] if record.exists() else 0


def test_what_was_written_after_the_last_record_is_cut_off(source, tmp_path):
    wanted = shard(source, tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        shard(source, tmp_path / "out", Stop(30, KeyboardInterrupt()))
    for path in (tmp_path / "out" / "unfinished").glob("*.tar"):
        with path.open("ab") as file:
            file.write(b"half a sample")
    assert shard(source, tmp_path / "out") == wanted


def test_stopped_while_the_shards_move_it_moves_the_others(source, tmp_path, monkeypatch):
    wanted = shard(source, tmp_path / "undisturbed")
    publish = write._publish

    def half(plan, progress, staging, out):
        for name in plan.names[:3]:
            (staging / name).replace(out / name)
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "_publish", half)
    with pytest.raises(KeyboardInterrupt):
        shard(source, tmp_path / "out")
    monkeypatch.setattr(write, "_publish", publish)
    assert shard(source, tmp_path / "out") == wanted


def test_unfinished_shards_of_another_plan_are_refused_and_the_advice_holds(source, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        shard(source, tmp_path / "out", Stop(30, KeyboardInterrupt()))
    other = source.map_labels(list(reversed(range(len(making.WNIDS)))), source.class_names)
    for reader, settings in ((other, {}), (source, {"encoding": Encoding(longest_side=30)})):
        with pytest.raises(
            OutputError, match=r"(unfinished train shards of other samples|its images are as they were)"
        ):
            shard(reader, tmp_path / "out", **settings)
    record = tmp_path / "out" / "unfinished" / "train.json"
    record.write_text('{"plan": 3}')
    with pytest.raises(OutputError, match=r"train.json: cannot be read: .* remove .*unfinished"):
        shard(source, tmp_path / "out")
    record.unlink()  # as the message says
    assert shard(other, tmp_path / "out") == shard(other, tmp_path / "undisturbed")


def test_a_shard_that_lost_bytes_is_refused(source, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        shard(source, tmp_path / "out", Stop(40, KeyboardInterrupt()))
    path = tmp_path / "out" / "unfinished" / "train-0002.tar"
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(OutputError, match=r"train-0002.tar: has .* bytes that were written; remove .*unfinished"):
        shard(source, tmp_path / "out")


def test_a_second_writer_is_refused(source, tmp_path):
    lock = tmp_path / "out" / "unfinished" / "train.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="another process is writing its train shards"):
            shard(source, tmp_path / "out")
    assert shard(source, tmp_path / "out") == shard(source, tmp_path / "undisturbed")


def test_few_file_descriptors_are_enough(source, tmp_path, monkeypatch):
    wanted = shard(source, tmp_path / "undisturbed")
    monkeypatch.setattr("pld.images.shards.growing_tars._allow_open_files", lambda num: 2)
    monkeypatch.setattr(write, "_SAVE_BYTES", 3000)
    assert shard(source, tmp_path / "out") == wanted


def test_an_interrupt_between_any_two_steps_counts_a_sample_whole_or_not_at_all(tmp_path):
    """The write is what an interrupt can tear from its count: the count is that of before, and a restart cuts."""
    paths = [tmp_path / "a.tar", tmp_path / "b.tar"]
    with GrowingTars(paths, Progress(plan="", done=0, sizes=[0, 0])) as tars:
        tars.append(0, [b"12345"])
        tars.append(1, [b"678"])
        tars._write(0, [b"torn"])
        assert tars.progress == Progress(plan="", done=2, sizes=[5, 3])
        kept = tars.progress
    with GrowingTars(paths, kept) as tars:
        tars.append(0, [b"9"])
    assert [path.read_bytes() for path in paths] == [b"123459", b"678"]
