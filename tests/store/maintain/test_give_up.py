"""pld rm: whole blocks from the end, and a store that every reader and writer can use after a kill at any moment."""

import contextlib
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pld.cli.main import _main
from pld.config import run
from pld.errors import StoreError
from pld.report.card import dataset_card
from pld.store import open_store
from pld.store.documents.layout import read_layout
from pld.store.documents.manifest import read_manifest
from pld.store.maintain.give_up import give_up, plan_loss
from pld.store.maintain.verify import verify_store
from pld.store.objects.local_storage import LocalStorage
from pld.store.objects.open import open_storage
from tests.processes import environment
from tests.store.world import World, tree
from tests.store.write.test_crash import contents

PLD = (sys.executable, "-c", "from pld.cli.main import main; raise SystemExit(main())")


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    """3 shards x blocks 0-2, 3-5, 6-6."""
    root = tmp_path_factory.mktemp("finished") / "store"
    world.write(root, 7, block_views=3)
    return root


@pytest.fixture
def store(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "store")


def rm(*argv):
    return run(_main, ["rm", *map(str, argv)])


def problems(root):
    """What `pld verify` finds, but for a seal that a killed writer did not come to."""
    found = verify_store(open_storage(str(root)), lambda *_: None)
    return [problem for problem in found if "caching again seals them" not in problem.found]


def test_what_is_left_is_the_store_of_fewer_views(world, store, tmp_path, capsys):
    freed = sum(len(data) for name, data in tree(store).items() if "v003" in name or "v006" in name)
    assert rm(store, "--views", "3-6", "--yes") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{store}: gives up views 3-6: 6 parts, {freed:,} bytes. Only the teacher can make them again. "
        "A training run that reads them stops with an error",
        f"{store}: views 0-2 are left",
    ]
    world.write(tmp_path / "fewer", 3, block_views=3)
    assert tree(store) == tree(tmp_path / "fewer")
    assert open_store(store).num_views == 3


def test_views_can_be_cached_again_in_other_blocks(world, store):
    assert rm(store, "--views", "6", "--yes") == 0
    world.write(store, 8, block_views=2)
    assert [block.name for block in open_store(store).layout.blocks] == ["v000-002", "v003-005", "v006-007"]
    assert problems(store) == []


@pytest.mark.parametrize(
    ("views", "wanted"),
    [
        ("3-5", "only the last views can be given up, .* 0-2, 3-5, 6-6: end with 6"),
        ("4-6", "a block of views goes as a whole, and the blocks are 0-2, 3-5, 6-6; give --views 3-6 or --views 6-6"),
        ("0-6", "views 0-6 are all that it has: .* remove its folder"),
        ("6-7", "the store's blocks of views are 0-2, 3-5, 6-6; name views that it has"),
        ("6-5", "wanted a view such as 3, or a range such as 0-7"),
    ],
)
def test_what_cannot_be_given_up_is_said_with_the_blocks(store, views, wanted, capsys):
    before = tree(store)
    assert rm(store, "--views", views, "--yes") == 2
    assert re.search(wanted, capsys.readouterr().err)
    assert tree(store) == before


class _KilledError(Exception):
    pass


def test_killed_after_any_deletion_it_is_a_store_and_the_same_command_goes_on(world, finished, tmp_path):
    whole = tmp_path / "whole"
    shutil.copytree(finished, whole)
    assert rm(whole, "--views", "3-6", "--yes") == 0
    names = set(tree(finished)) - set(tree(whole))
    for step in range(len(names)):
        root = shutil.copytree(finished, tmp_path / f"killed-{step}")

        class Dying(LocalStorage):
            left = step

            def delete(self, name):
                if not self.left:
                    raise _KilledError
                self.left -= 1
                super().delete(name)

        storage = Dying(root)
        manifest = read_manifest(storage)
        with contextlib.suppress(_KilledError):
            give_up(storage, manifest, plan_loss(storage, manifest, range(3, 7)), lambda: None)
        assert open_store(root).num_views in (3, 6, 7)
        assert problems(root) == []
        again = shutil.copytree(root, tmp_path / "again")
        world.write(again, 7, block_views=3)
        assert tree(again) == tree(finished)
        shutil.rmtree(again)
        last = read_layout(LocalStorage(root), manifest).blocks[-1].last
        assert rm(root, "--views", f"3-{last}", "--yes") == 0
        assert tree(root) == tree(whole)


def test_kill_9_while_it_deletes(finished, tmp_path):
    root = shutil.copytree(finished, tmp_path / "store")
    child = subprocess.Popen(
        [*PLD, "rm", root, "--views", "3-6", "--yes"],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    seals = root / "seals" / "v006-006.json"
    while seals.exists() and child.poll() is None:
        pass
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert problems(root) == []
    assert open_store(root).num_views in (3, 6, 7)


def test_a_writer_that_adds_a_part_meanwhile_is_seen(world, store):
    storage = LocalStorage(store)
    manifest = read_manifest(storage)
    assert rm(store, "--views", "6", "--yes") == 0
    writer = world.open_writer(store)
    first, second, _ = writer.missing_parts(7)
    world.write_part(writer, first)
    loss = plan_loss(storage, manifest, range(6, 7))
    assert (loss.num_parts, loss.num_planned) == (1, 3)
    world.write_part(writer, second)
    with pytest.raises(StoreError, match=r"was written a moment ago: a writer is at work .* stop it, then run"):
        give_up(storage, manifest, loss, lambda: None)
    assert len(read_layout(storage, manifest).committed) == 8
    give_up(storage, manifest, plan_loss(storage, manifest, range(6, 7)), lambda: None)
    assert open_store(store).num_views == 6


def test_an_unfinished_block_and_what_a_killed_writer_left_go_too(world, store, capsys):
    writer = world.open_writer(store)
    world.write_part(writer, writer.missing_parts(9)[0])
    leftover = store / "parts" / "v007-008" / f".train-0001.zarr.zip.{'a' * 32}.tmp"
    leftover.write_bytes(b"half")
    assert rm(store, "--views", "7-8", "--yes") == 0
    assert "2 of their 3 parts are not cached yet: if a cache-teacher is at work" in capsys.readouterr().out
    assert not leftover.exists()
    assert open_store(store).num_views == 7


def test_a_card_of_pld_is_kept_up_to_date(store):
    storage = open_storage(store)
    storage.put("README.md", dataset_card(open_store(store), "cc-by-4.0", "stores/mine").encode())
    assert rm(store, "--views", "3-6", "--yes") == 0
    text = (store / "README.md").read_text()
    assert "3 views an image" in text
    assert 'license: "cc-by-4.0"' in text


def test_without_a_terminal_and_without_yes_nothing_is_deleted(store, capsys, monkeypatch):
    before = tree(store)
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert rm(store, "--views", "6") == 2
    assert "nothing was deleted. Give --yes" in capsys.readouterr().err
    assert tree(store) == before


@pytest.mark.parametrize(("answer", "left"), [("", 7), ("y", 6)])
def test_on_a_terminal_it_asks(store, answer, left):
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [*PLD, "rm", store, "--views", "6"],
        env=environment(),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    os.write(ours, f"{answer}\n".encode())
    out, _ = child.communicate(timeout=60)
    os.close(ours), os.close(theirs)
    assert child.returncode == 0
    assert ("nothing was deleted" in out) == (left == 7)
    assert open_store(store).num_views == left


def test_on_s3(world, bucket):
    url = f"{bucket}/store"
    world.write(url, 4, block_views=2)
    fewer = {name for name in contents(url) if "v002" not in name}
    assert rm(url, "--views", "2-3", "--yes") == 0
    assert set(contents(url)) == fewer
    assert open_store(url).num_views == 2
    assert problems(url) == []
