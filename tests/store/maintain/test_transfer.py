"""Copying stores: verified, resumable, by blocks, never half-visible, never into another store."""

import dataclasses
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from huggingface_hub import DatasetCard

from pld.cli.main import main
from pld.errors import ConfigError, CorruptStoreError, FingerprintMismatchError, NotCachedError
from pld.store import Block, PartId, Probe, open_store
from pld.store.documents.commit import read_commit
from pld.store.documents.layout import Layout, read_layout
from pld.store.documents.manifest import read_manifest
from pld.store.format.canonical import sha256_hex
from pld.store.maintain.transfer import plan_transfer, transfer
from pld.store.objects.local_storage import LocalStorage
from pld.store.objects.open import open_storage
from tests.object_store import FaultyProxy
from tests.processes import ROOT, environment
from tests.store.world import World, tree
from tests.store.write.test_crash import assert_valid, contents


@pytest.fixture(scope="module")
def world():
    return World(sizes=(6, 5, 4, 7))


@pytest.fixture(scope="module")
def source(world, tmp_path_factory):
    """4 shards x blocks 0-2, 3-5, 6-6."""
    root = tmp_path_factory.mktemp("source") / "store"
    writer = world.write(root, 7, block_views=3)
    writer.add_probes([Probe(key="n00000_é", view=0, pixels=np.arange(192, dtype=np.uint8).reshape(3, 8, 8))])
    return root


def copy(source, destination, views=None):
    """The bytes of each part copied."""
    return list(transfer(open_storage(str(source)), open_storage(str(destination)), views)[1])


def pld(monkeypatch, *argv):
    monkeypatch.setattr("sys.argv", ["pld", *map(str, argv)])
    return main()


def test_a_copy_is_the_same_bytes_and_copying_again_copies_nothing(source, tmp_path):
    assert len(copy(source, tmp_path / "copy")) == 12
    assert tree(tmp_path / "copy") == tree(source)
    assert copy(source, tmp_path / "copy") == []
    assert tree(tmp_path / "copy") == tree(source)


def test_push_verify_inspect_and_pull_through_s3(source, bucket, tmp_path, monkeypatch, capsys):
    url = f"{bucket}/a/store"
    assert pld(monkeypatch, "push", source, url, "--license", "cc-by-4.0") == 0
    assert f"{url}: 12 parts copied" in capsys.readouterr().out
    pushed = contents(url)
    card = pushed.pop("README.md").decode()
    assert pushed == tree(source)
    assert f'open_store("{url}")' in card
    assert DatasetCard(card).data.license == "cc-by-4.0"
    assert pld(monkeypatch, "verify", url) == 0
    assert f"{url}: no problem found in 154 sample-views" in capsys.readouterr().out
    assert pld(monkeypatch, "inspect", url) == 0
    assert "views 7, top 4 of 20" in " ".join(capsys.readouterr().out.split())
    assert pld(monkeypatch, "pull", url, tmp_path / "part", "--views", "0-4") == 0
    assert "8 parts copied" in capsys.readouterr().out
    assert open_store(str(tmp_path / "part")).num_views == 6
    assert pld(monkeypatch, "pull", url, tmp_path / "part") == 0
    printed = capsys.readouterr().out
    assert "8 parts are there already" in printed
    assert "4 parts copied" in printed
    assert tree(tmp_path / "part") == {**tree(source), "README.md": card.encode()}
    assert open_store(str(tmp_path / "part")).load_view(6)[np.arange(22)].k == 4


def test_a_part_of_the_views_has_a_card_of_its_own(source, tmp_path, monkeypatch):
    assert pld(monkeypatch, "push", source, tmp_path / "all", "--license", "cc-by-4.0") == 0
    assert pld(monkeypatch, "pull", tmp_path / "all", tmp_path / "part", "--views", "0-2") == 0
    card = (tmp_path / "part" / "README.md").read_text()
    assert "3 views an image" in card
    assert DatasetCard(card).data.license == "cc-by-4.0"


@pytest.mark.parametrize("views", ["6", "3-6"])
def test_views_that_would_leave_a_gap_are_refused_before_anything_is_written(
    source, tmp_path, monkeypatch, capsys, views
):
    assert pld(monkeypatch, "pull", source, tmp_path / "copy", "--views", views) == 2
    assert "give --views 0-6" in capsys.readouterr().err
    assert not (tmp_path / "copy").exists()


def test_readmes_that_people_wrote_stay(source, tmp_path, monkeypatch, capsys):
    copy(source, tmp_path / "mine")
    (tmp_path / "mine" / "README.md").write_text("# mine")
    assert pld(monkeypatch, "card", tmp_path / "mine") == 0
    assert "stays as it is" in capsys.readouterr().out
    assert pld(monkeypatch, "push", tmp_path / "mine", tmp_path / "copy") == 0
    assert (tmp_path / "copy" / "README.md").read_text() == "# mine"
    assert pld(monkeypatch, "push", source, tmp_path / "copy") == 0
    assert (tmp_path / "copy" / "README.md").read_text() == "# mine"
    assert "was not written by pld and stays" in capsys.readouterr().out


@pytest.mark.parametrize("views", ["7", "5-9", "3-2", "x", "-1"])
def test_views_that_are_not_there_are_refused(source, tmp_path, monkeypatch, capsys, views):
    assert pld(monkeypatch, "push", source, tmp_path / "copy", f"--views={views}") == 2
    assert f"--views {views}" in capsys.readouterr().err


def test_another_stores_place_is_refused_with_both_fingerprints(world, source, tmp_path):
    other = dataclasses.replace(world, k=3)
    other.write(tmp_path / "other", 1)
    before = tree(tmp_path / "other")
    with pytest.raises(FingerprintMismatchError) as error:
        copy(source, tmp_path / "other")
    for identity in (world.identity, other.identity):
        assert identity.fingerprint in str(error.value)
    assert tree(tmp_path / "other") == before


def test_damaged_parts_are_not_copied(source, tmp_path):
    copy(source, tmp_path / "damaged")
    part = min((tmp_path / "damaged/parts/v003-005").iterdir())
    whole = part.read_bytes()
    for damage in (bytes([whole[0] ^ 1]) + whole[1:], whole[:-1], whole + b"x", b""):
        part.write_bytes(damage)
        with pytest.raises(CorruptStoreError, match=part.name):
            copy(tmp_path / "damaged", tmp_path / "copy")
        assert not (tmp_path / "copy/parts/v003-005" / part.name).exists()
        assert not (tmp_path / "copy/seals/v003-005.json").exists()
    part.unlink()
    with pytest.raises(CorruptStoreError, match="a commit names this part and it is gone"):
        copy(tmp_path / "damaged", tmp_path / "copy")
    assert open_store(str(tmp_path / "copy")).num_views == 3
    copy(source, tmp_path / "copy")
    assert tree(tmp_path / "copy") == tree(source)


def test_an_unfinished_store_is_copied_as_far_as_it_is(world, source, tmp_path):
    writer = world.open_writer(tmp_path / "unfinished")
    for part in writer.missing_parts(7, block_views=3)[:5]:
        world.write_part(writer, part)
    plan, copies = transfer(LocalStorage(tmp_path / "unfinished"), LocalStorage(tmp_path / "copy"), None)
    assert len(list(copies)) == 5
    assert (len(plan.parts), plan.num_held, plan.num_missing) == (5, 0, 7)
    assert open_store(str(tmp_path / "copy")).num_views == 3
    copy(source, tmp_path / "copy")
    assert tree(tmp_path / "copy") == tree(source)


def test_a_place_with_other_bits_keeps_its_own_and_stays_valid(world, source, tmp_path):
    perturbed = dataclasses.replace(world, spread=2.9)
    writer = perturbed.open_writer(tmp_path / "copy")
    for part in writer.missing_parts(7, block_views=3)[2:6]:
        perturbed.write_part(writer, part)
    before = tree(tmp_path / "copy")
    copy(source, tmp_path / "copy")
    assert_valid(tmp_path / "copy")
    assert {name: tree(tmp_path / "copy")[name] for name in before} == before


def test_a_place_with_other_blocks_is_refused(world, source, tmp_path):
    world.write(tmp_path / "copy", 4, block_views=4)
    with pytest.raises(ConfigError, match="views 0-2 are one block here, 0-3 at the destination"):
        copy(source, tmp_path / "copy")


def test_what_is_no_store_is_said(tmp_path):
    with pytest.raises(NotCachedError, match="there is no store"):
        copy(tmp_path / "nothing", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_plan_is_the_missing_parts_of_the_wanted_blocks(source):
    manifest = read_manifest(LocalStorage(source))
    blocks = tuple(Block(first=first, last=first + 1) for first in (0, 2, 4))
    parts = {PartId(block=block, shard=shard.name) for block in blocks for shard in manifest.shards}
    whole = Layout(blocks=blocks, committed=frozenset(parts), sealed=frozenset())
    none = Layout(blocks=(), committed=frozenset(), sealed=frozenset())
    held = {part for part in parts if part.block == blocks[0] or part.shard == "train-0001"}
    some = Layout(blocks=blocks[:2], committed=frozenset(held), sealed=frozenset())
    assert len(plan_transfer(manifest, whole, none, None).parts) == 12
    plan = plan_transfer(manifest, whole, some, range(3, 4))
    assert plan.blocks == blocks[:2]
    assert [(part.block, part.shard) for part in plan.parts] == [
        (blocks[1], f"train-{index:04d}") for index in (0, 2, 3)
    ]
    assert (plan.num_held, plan.num_missing) == (1, 0)
    for gap in (
        none,
        dataclasses.replace(some, committed=frozenset(held - {PartId(block=blocks[0], shard="train-0002")})),
    ):
        with pytest.raises(ConfigError, match="readers need all from view 0 on; give --views 0-3"):
            plan_transfer(manifest, whole, gap, range(2, 4))


def assert_whole(url):
    """Each commit's part is there, as it was committed."""
    storage = open_storage(url)
    manifest = read_manifest(storage)
    for part in read_layout(storage, manifest).committed:
        commit = read_commit(storage, manifest, part)
        assert sha256_hex(storage.read(commit.part_name, 2**24)) == commit.part_sha256


@pytest.mark.parametrize(
    ("kills", "views"), [pytest.param(1, 8, id="1 kill"), pytest.param(20, 100, id="20 kills", marks=pytest.mark.long)]
)
@pytest.mark.parametrize("scheme", [pytest.param("folder", marks=pytest.mark.long), "s3"])
def test_a_killed_copy_is_a_store_and_goes_on(world, request, object_store, tmp_path, kills, views, scheme):
    world.write(tmp_path / "source", views, block_views=2)
    url = str(tmp_path / "copy") if scheme == "folder" else request.getfixturevalue("bucket") + "/store"
    clock, storage = random.Random(kills), open_storage(url)
    with FaultyProxy(object_store.port, failing=0.05, cutting=0.05) as proxy:
        env, copied, interrupted = environment(**object_store.environment(proxy.port)), 0, 0
        argv = [sys.executable, "-c", "from pld.cli.main import main; main()", "push", str(tmp_path / "source"), url]
        for _ in range(kills):
            process = subprocess.Popen(argv, env=env, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while process.poll() is None and len(storage.list("commits")) <= copied:
                time.sleep(0.01)
            time.sleep(clock.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
            process.wait()
            copied = len(storage.list("commits"))
            if copied:
                assert_whole(url)
            if copied == 2 * views:
                break
            interrupted += copied > 0
        assert interrupted >= kills // 4
        subprocess.run(argv, env=env, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    found = contents(url)
    found.pop("README.md")
    assert found == tree(tmp_path / "source")
