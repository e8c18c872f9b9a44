"""One store, two formats: there and back changes not a byte."""

import dataclasses

import numpy as np
import pytest

from pld.cli.main import _main
from pld.errors import ConfigError, FingerprintMismatchError, StoreError
from pld.store import open_store
from pld.store.maintain.convert import convert_store
from tests.store.world import World, tree

FORMATS = ("zarr", "webdataset")


def ignore(_):
    pass


@pytest.mark.parametrize(("there", "back"), [FORMATS, FORMATS[::-1]])
def test_there_and_back_is_the_same_store_to_the_last_byte(tmp_path, there, back, capsys):
    World(format=back).write(tmp_path / "first", 3, block_views=2)
    convert_store(str(tmp_path / "first"), str(tmp_path / "there"), there, ignore)
    _main(["convert", str(tmp_path / "there"), str(tmp_path / "back"), "--format", back])
    assert f"3 views, {open_store(str(tmp_path / 'first')).num_bytes:,} bytes, {back}" in capsys.readouterr().out
    assert tree(tmp_path / "back") == tree(tmp_path / "first")
    World(format=there).write(tmp_path / "made", 3, block_views=2)
    converted, made = tree(tmp_path / "there"), tree(tmp_path / "made")
    provenance = open_store(str(tmp_path / "there")).manifest.provenance
    assert provenance == {"made_by": "tests", "converted_from": back}
    assert {**converted, "store.json": b""} == {**made, "store.json": b""}


def test_what_is_not_complete_stays_so_and_an_interrupted_conversion_goes_on(tmp_path):
    world = World()
    writer = world.open_writer(tmp_path / "a")
    for part in writer.missing_parts(4, block_views=2)[:4]:
        world.write_part(writer, part)
    writer.seal()

    class KilledError(Exception):
        pass

    def kill(_):
        raise KilledError

    for _ in range(2):
        with pytest.raises(KilledError):
            convert_store(str(tmp_path / "a"), str(tmp_path / "b"), "webdataset", kill)
    convert_store(str(tmp_path / "a"), str(tmp_path / "b"), "webdataset", ignore)
    first, second = open_store(str(tmp_path / "a")), open_store(str(tmp_path / "b"))
    assert first.num_views == second.num_views == 2
    assert first.stats == second.stats
    # Caching goes on in the converted store, and gives what it would have given in the first.
    for name, format in (("a", "zarr"), ("b", "webdataset")):
        dataclasses.replace(world, format=format).write(tmp_path / name, 4, block_views=2)
    for view in range(4):
        rows = np.arange(17)
        a, b = (open_store(str(tmp_path / name)).load_view(view)[rows] for name in "ab")
        assert np.array_equal(a.logprobs, b.logprobs)


def test_what_cannot_be_converted_is_refused(tmp_path):
    World().write(tmp_path / "a", 2, block_views=2)
    with pytest.raises(ConfigError, match="in the format zarr already"):
        convert_store(str(tmp_path / "a"), str(tmp_path / "b"), "zarr", ignore)
    World(seed=1, format="webdataset").write(tmp_path / "other", 1)
    with pytest.raises(FingerprintMismatchError, match="other settings"):
        convert_store(str(tmp_path / "a"), str(tmp_path / "other"), "webdataset", ignore)
    World(format="webdataset").write(tmp_path / "narrow", 1)
    with pytest.raises(StoreError, match="in the blocks v000-000, wanted v000-001"):
        convert_store(str(tmp_path / "a"), str(tmp_path / "narrow"), "webdataset", ignore)
