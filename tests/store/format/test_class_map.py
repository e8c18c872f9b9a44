"""A store of a teacher whose classes were mapped: what it says of that, and what it refuses."""

import dataclasses
import json

import pytest

from pld.errors import ConfigError, CorruptStoreError
from pld.store import ClassMap, Identity, StoreWriter, open_store
from pld.store.format.typed_json import parse
from pld.store.maintain.convert import convert_store
from pld.store.maintain.verify import verify_store
from pld.store.objects.open import open_storage
from tests.store.world import World

WORLD = World()


def mapped(columns=None, model_classes=1000):
    identity = WORLD.identity
    columns = tuple(range(0, 2 * identity.teacher.num_classes, 2)) if columns is None else columns
    class_map = ClassMap(model_classes=model_classes, columns=columns)
    return dataclasses.replace(identity, teacher=dataclasses.replace(identity.teacher, class_map=class_map))


def written(root, mass=0.25):
    """A store that tells a mass for each row and view."""
    writer = StoreWriter.open(root, mapped(), WORLD.shards, {})
    for part in writer.missing_parts(2):
        rows = WORLD.rows(part.shard)
        keys, views = WORLD.keys[rows], [WORLD.signal(part.shard, view) for view in part.views]
        writer.write_part(part, keys, WORLD.labels[rows], views, unmapped_mass=mass * len(keys) * len(views))
    writer.seal()
    return open_store(root)


def test_the_map_is_part_of_the_identity():
    fingerprints = {WORLD.identity.fingerprint, mapped().fingerprint, mapped(model_classes=1001).fingerprint}
    assert len(fingerprints) == 3
    assert "class_map" not in WORLD.identity.to_json()["teacher"]
    assert parse(Identity, mapped().to_json(), "x").fingerprint == mapped().fingerprint


def test_code_of_ones_own_is_part_of_the_identity_and_libraries_say_nothing():
    plain = WORLD.identity
    teachers = [dataclasses.replace(plain.teacher, code_sha256=digit * 64) for digit in "ab"]
    identities = [dataclasses.replace(plain, teacher=teacher) for teacher in teachers]
    assert len({plain.fingerprint, *(identity.fingerprint for identity in identities)}) == 3
    assert "code_sha256" not in plain.to_json()["teacher"]
    assert parse(Identity, identities[0].to_json(), "x").fingerprint == identities[0].fingerprint
    for hostile in ("A" * 64, "a" * 63, 5, None, ["a" * 64]):
        told = identities[0].to_json()
        told["teacher"]["code_sha256"] = hostile
        with pytest.raises(CorruptStoreError, match=r"teacher\.code_sha256"):
            parse(Identity, told, "store.json: identity")


@pytest.mark.parametrize("columns", [(0, 0), (0, 1000), (-1, 3)])
def test_columns_are_the_models(columns):
    with pytest.raises(ConfigError, match="class map to 1000 classes"):
        ClassMap(model_classes=1000, columns=columns)


def test_there_is_a_column_for_each_class():
    with pytest.raises(ConfigError, match="a class map of 2 columns"):
        mapped((0, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": [0, 0]}, "comes twice"),
        ({"columns": "x"}, "field 'teacher.class_map.columns': found 'x', wanted `array`"),
        ({"columns": [0, 5000]}, "integers in 0..999"),
        ({"model_classes": 0}, "found 0, wanted `int` >= 1"),
        ({"more": 1}, "field 'teacher.class_map.more': unknown"),
    ],
)
def test_a_strangers_map_is_checked(change, message):
    told = mapped().to_json()
    told["teacher"]["class_map"] |= change
    with pytest.raises((CorruptStoreError, ConfigError), match=message):
        parse(Identity, told, "store.json: identity")


def test_the_mass_is_summed_and_travels(tmp_path):
    store = written(tmp_path / "s")
    assert store.stats.mean_unmapped_mass == pytest.approx(0.25)
    convert_store(str(tmp_path / "s"), str(tmp_path / "w"), "webdataset", lambda _: None)
    assert open_store(tmp_path / "w").stats.mean_unmapped_mass == pytest.approx(0.25)
    for name in "sw":
        assert list(verify_store(open_storage(tmp_path / name), lambda *_: None)) == []


@pytest.mark.parametrize("mass", [-1.0, 1.5])
def test_a_mass_that_no_model_has_is_found(tmp_path, mass):
    written(tmp_path / "s", mass)
    found = [problem.found for problem in verify_store(open_storage(tmp_path / "s"), lambda *_: None)]
    assert any("as the mass on classes that the dataset does not have" in each for each in found)


def test_other_stores_say_nothing_of_it(tmp_path):
    WORLD.write(tmp_path / "s", 1)
    commit = next((tmp_path / "s" / "commits").rglob("*.json"))
    assert "unmapped_mass" not in json.loads(commit.read_text())["stats"]
