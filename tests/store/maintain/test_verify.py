"""pld verify: what is wrong in content, though every digest was made anew; and repair, to the byte."""

import dataclasses
import shutil

import pytest
import torch

from pld.cli.main import _main
from pld.config import run
from pld.store import open_store
from pld.store.format.canonical import dump_document, load_document
from pld.store.maintain.verify import verify_store
from pld.store.objects.local_storage import LocalStorage
from tests.store.world import World, tree

FORMATS = ("zarr", "webdataset")


def problems(root):
    return list(verify_store(LocalStorage(root), lambda *_: None))


def told(root):
    return {problem.name: problem.found for problem in problems(root)}


@pytest.fixture(scope="module", params=FORMATS)
def finished(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("finished")
    World(format=request.param).write(root, 5, block_views=3)
    return root


def resealed(root):
    """Write the seals again, as a hostile author would."""
    shutil.rmtree(root / "seals")
    World(format=open_store(str(root)).manifest.format).open_writer(root).seal()


def test_a_sound_store_has_no_problems(finished, capsys):
    seen = []
    assert list(verify_store(LocalStorage(finished), lambda *progress: seen.append(progress))) == []
    sizes = [path.stat().st_size for path in finished.glob("parts/*/*")]
    assert sorted(size for size, _ in seen) == sorted(sizes)
    assert {total for _, total in seen} == {sum(sizes)}
    assert run(_main, ["verify", str(finished)]) == 0
    assert "no problem found in 85 sample-views" in capsys.readouterr().out


def test_what_is_not_cached_yet_is_no_problem(tmp_path):
    world = World()
    writer = world.open_writer(tmp_path)
    assert problems(tmp_path) == []
    world.write_part(writer, writer.missing_parts(4, block_views=2)[1])
    assert problems(tmp_path) == []


def hostile_part(root, monkeypatch, change, **settings):
    """A store of one part whose author skipped the writer's checks."""
    world = World(sizes=(8,), **settings)
    monkeypatch.setattr("pld.store.write.check.check_signal", lambda *_: None)
    writer = world.open_writer(root)
    (part,) = writer.missing_parts(1)
    writer.write_part(part, world.keys, world.labels, [change(world.signal("train-0000", 0))])
    writer.seal()


def swapped(topk):
    classes = topk.classes.clone()
    classes[3] = classes[3, 0]
    return dataclasses.replace(topk, classes=classes)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (swapped, "view 0: found a class twice in a row, first in row 3"),
        (lambda t: dataclasses.replace(t, logprobs=t.logprobs.flip(1)), "rise with the rank"),
        (lambda t: dataclasses.replace(t, logprobs=t.logprobs - 1), "more probable than its last class"),
        (lambda t: dataclasses.replace(t, tail_logmass=t.tail_logmass - 3), "do not sum to 1"),
        (lambda t: dataclasses.replace(t, label_logprob=t.label_logprob * 0), "masked where the label is outside"),
        (lambda t: dataclasses.replace(t, classes=t.classes + 17), "found class"),
    ],
)
def test_numbers_that_no_teacher_says_are_found(tmp_path, monkeypatch, format, change, complaint):
    hostile_part(tmp_path, monkeypatch, change, format=format)
    ((name, found),) = told(tmp_path).items()
    assert name.startswith("parts/v000-000/train-0000-")
    assert complaint in found


def test_rounding_is_no_problem_at_the_coarsest_grid_and_largest_k(tmp_path):
    for k, spread in ((1, 0.0), (20, 60.0), (7, 9.0)):
        root = tmp_path / str(k)
        world = World(k=k, spread=spread)
        identity = dataclasses.replace(world.identity, codec=dataclasses.replace(world.identity.codec, grid=1 / 8))
        coarse = type("Coarse", (World,), {"identity": identity})(k=k, spread=spread)
        coarse.write(root, 2)
        assert problems(root) == []


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("stats", {"num_correct": 0}, "stats are not those"),
        ("stats", {"tail_mass": 0.0}, "stats are not those"),
        ("samples_sha256", "0" * 64, "keys and labels have the digest"),
        ("part_bytes", 100, "of the whole file"),
    ],
)
def test_a_commit_that_lies_about_its_part_is_found(finished, tmp_path, field, value, complaint):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "commits/v000-002/train-0001.json"
    commit = load_document(path.read_bytes(), "commit")
    new = commit[field] | value if isinstance(value, dict) else value
    path.write_bytes(dump_document(commit | {field: new}))
    assert "sealed was" in told(tmp_path)["commits/v000-002/train-0001.json"]
    resealed(tmp_path)
    found = told(tmp_path)
    assert complaint in found[f"parts/v000-002/{commit['part']}"]


def test_a_part_that_grew_is_found(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (path,) = tmp_path.glob("parts/v003-004/train-0002-*")
    path.write_bytes(path.read_bytes() + b"\0")
    assert told(tmp_path) == {path.relative_to(tmp_path).as_posix(): f"found more than the {path.stat().st_size - 1} "
                              "bytes that were committed"}  # fmt: skip


def test_other_labels_than_the_datasets_are_found(tmp_path):
    world = World()
    writer = world.open_writer(tmp_path)
    for part in writer.missing_parts(1):
        rows = world.rows(part.shard)
        labels = (world.labels[rows] + 1) % 20
        signal = type(world.signal(part.shard, 0)).from_logits(
            world.logits(part.shard, 0), torch.from_numpy(labels), 4, world.identity.codec.temperatures
        )
        writer.write_part(part, world.keys[rows], labels, [signal])
    writer.seal()
    assert "its samples have the digest" in told(tmp_path)["store.json"]


def test_samples_that_differ_between_blocks_are_found(tmp_path, monkeypatch):
    world, other = World(sizes=(8,)), World(sizes=(8,), seed=3)
    monkeypatch.setattr("pld.store.write.writer.StoreWriter._check_other_blocks", lambda *_: None)
    writer = world.open_writer(tmp_path)
    first, second = writer.missing_parts(2, block_views=1)
    world.write_part(writer, first)
    other.write_part(writer, second)
    writer.seal()
    assert told(tmp_path)[second.commit_name] == f"other samples than {first.commit_name}"


DAMAGE = {
    "flipped": lambda data: data[:400] + bytes([data[400] ^ 1]) + data[401:],
    "cut": lambda data: data[: len(data) // 2],
    "lost": lambda _: None,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("object_", ["parts/v000-002/train-0001-*", "commits/v003-004/train-0002.json",
                                     "seals/v000-002.json", "blocks/v003.json", "blocks/v000.json"])  # fmt: skip
def test_after_repair_and_caching_the_store_is_the_undamaged_one(finished, tmp_path, capsys, object_, damage):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (path,) = tmp_path.glob(object_)
    data = DAMAGE[damage](path.read_bytes().ljust(401))
    path.unlink() if data is None else path.write_bytes(data)
    name = path.relative_to(tmp_path).as_posix()
    damaged = tree(tmp_path)
    with pytest.raises(SystemExit) as caught:
        _main(["verify", str(tmp_path), "--repair", "list"])
    assert caught.value.code == 1
    assert tree(tmp_path) == damaged
    listed = capsys.readouterr().out
    assert f"{name}: " in listed
    with pytest.raises(SystemExit):
        _main(["verify", str(tmp_path), "--repair", "delete"])
    assert capsys.readouterr().out.replace("deleted ", "would delete ") == listed
    World(format=open_store(str(finished)).manifest.format).write(tmp_path, 5, block_views=5)
    assert tree(tmp_path) == tree(finished)
    assert problems(tmp_path) == []


def test_a_broken_manifest_is_named_and_never_deleted(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (tmp_path / "store.json").write_bytes((tmp_path / "store.json").read_bytes()[:-5])
    damaged = tree(tmp_path)
    with pytest.raises(SystemExit):
        _main(["verify", str(tmp_path), "--repair", "delete"])
    assert "store.json cannot be made anew" in capsys.readouterr().out
    assert tree(tmp_path) == damaged


def test_unusable_input_is_2_not_1(tmp_path, finished, capsys):
    assert run(_main, ["verify", str(tmp_path)]) == 2
    assert "there is no store" in capsys.readouterr().err
    assert run(_main, ["verify", str(finished), "--teacher", "resnet18"]) == 2
    assert "give --data" in capsys.readouterr().err


def test_every_problem_is_reported_not_only_the_first(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    parts = sorted(tmp_path.glob("parts/*/*"))
    for path in parts[:3]:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 255
        path.write_bytes(data)
    (tmp_path / "commits/v003-004/train-0001.json").unlink()
    (tmp_path / "seals/v000-002.json").write_text("{}")
    broken = {path.relative_to(tmp_path).as_posix() for path in parts[:3]}
    assert set(told(tmp_path)) == {*broken, "commits/v003-004/train-0001.json", "seals/v000-002.json"}
