"""Parquet and Arrow files that cannot be used, or only in part."""

import shutil

import numpy as np
import pyarrow as pa
import pytest

from pld.errors import DataError
from pld.images import open_source
from pld.images.open_reader import open_reader
from tests.images.sources.forms import making
from tests.processes import python


def changed(column, values):
    made = making.table()
    index = made.schema.get_field_index(column)
    return made.set_column(index, made.schema.field(column), pa.array(values, made.schema.field(column).type))


@pytest.mark.parametrize("maker", [making.make_parquet, making.make_arrow])
def test_tables_that_cannot_be_used(maker, tmp_path):
    number = 0

    def opened(made, **options):
        nonlocal number
        number += 1
        reader = open_reader(str(maker(tmp_path / str(number), made)), "train", **options)
        list(reader.read_units([np.arange(1), np.arange(reader.shard_sizes[0])]))
        return reader

    labels = making.table().column("label").to_pylist()
    with pytest.raises(DataError, match=r"2 of 60 images have no label in the column 'label', as in test splits"):
        opened(changed("label", [-1, None, *labels[2:]]))
    with pytest.raises(DataError, match="label 99, but there are names of 12 classes"):
        opened(changed("label", [99, *labels[1:]]))
    with pytest.raises(
        DataError, match=r"its labels number the 12 classes that the file names.*Leave --class_names out"
    ):
        opened(making.table(), class_names=["a", "b"])
    images = making.table().column("image").to_pylist()
    with pytest.raises(DataError, match="only the path"):
        opened(changed("image", [{"bytes": None, "path": "/x/n00001000_0.JPEG"}, *images[1:]]))
    with pytest.raises(DataError, match=r"no column of a label.*it has image .*, other"):
        opened(
            making.table()
            .rename_columns(["image", "other"])
            .replace_schema_metadata(None)
            .drop(["other"])
            .append_column("other", pa.array([0.5] * 60))
        )
    plain = making.table().replace_schema_metadata(None)
    assert opened(plain).class_names is None
    assert opened(plain, class_names=making.WNIDS).class_names == making.WNIDS
    damaged = making.table().replace_schema_metadata({"huggingface": "[]"})
    with pytest.raises(DataError, match="its metadata of Hugging Face cannot be read"):
        opened(damaged)


@pytest.mark.parametrize("maker", [making.make_parquet, making.make_arrow])
def test_keys_are_rows_where_paths_are_missing(maker, tmp_path):
    reader = open_reader(str(maker(tmp_path / "d", making.table(keys=False))), "train")
    stem = "train" if maker is making.make_parquet else "data"
    assert reader.keys[0].decode() == f"{stem}-00000-of-00002/000000"
    assert "keys are FILE/ROW" in reader.notes[0]


def test_damaged_tables_get_an_error(tmp_path):
    folder = making.make_parquet(tmp_path / "p")
    path = folder / "data" / "train-00001-of-00002.parquet"
    whole = path.read_bytes()
    for content in (whole[:1000], whole[:-3], b"PAR1" + bytes(500) + b"PAR1", b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"train-00001.*(cannot be read as Parquet|no rows)"):
            open_reader(str(folder), "train")
    path.write_bytes(whole)
    reader = open_reader(str(folder), "train")
    path.write_bytes(bytes(len(whole)))
    with pytest.raises(DataError, match="the file is damaged or was replaced"):
        list(reader.read_units([np.arange(59, 60)]))
    saved = making.make_arrow(tmp_path / "a")
    path = saved / "data-00001-of-00002.arrow"
    whole = path.read_bytes()
    for size in (0, 10, 500, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"data-00001.*cannot be read as Arrow"):
            open_source(str(saved))
    with pytest.raises(DataError, match="compressed, so its images cannot be read where they lie"):
        open_source(str(making.make_arrow(tmp_path / "z", compression="zstd")))
    for state in ("[]", "{", '{"_data_files": [{"filename": "../a.arrow"}]}'):
        (saved / "state.json").write_text(state)
        with pytest.raises(DataError, match=r"state\.json"):
            open_source(str(saved))


def test_files_of_the_hub_that_have_a_hash_in_their_names(tmp_path):
    data = making.make_parquet(tmp_path / "hub") / "data"
    for path, digest in zip(sorted(data.glob("train-*")), ("1a2b3c4d5e6f7a8b", "0123456789012345"), strict=True):
        path.rename(data / f"{path.stem}-{digest}.parquet")
    for location in (tmp_path / "hub", data / "train-*.parquet"):
        assert len(open_reader(str(location)).keys) == 60
    assert len(open_reader(str(tmp_path / "hub"), "validation").keys) == 5


def test_files_of_the_hub_that_are_missing(tmp_path):
    data = making.make_parquet(tmp_path / "hub") / "data"
    first, second = sorted(data.glob("train-*"))
    first.rename(tmp_path / "kept.parquet")
    for location in (tmp_path / "hub", data / "train-*.parquet"):
        with pytest.raises(DataError, match=r"train-\*-of-00002.parquet: 1 of 2 files are missing: 00000; download"):
            open_reader(str(location))
    assert len(open_reader(str(second)).keys) == 30  # who names one file wants that one
    shutil.copy(second, data / "train-00001-of-00002-1a2b3c4d5e6f7a8b.parquet")
    with pytest.raises(DataError, match="have one number; leave one version"):
        open_reader(str(tmp_path / "hub"))
    (data / "train-00001-of-00002-1a2b3c4d5e6f7a8b.parquet").unlink()
    second.rename(data / f"train-00001-of-{10**12}.parquet")
    with pytest.raises(
        DataError, match=r"999,999,999,999 of 1,000,000,000,000 files are missing: 0+, 0+2, .*, \.\.\.;"
    ):
        open_reader(str(tmp_path / "hub"))
    (data / f"train-00001-of-{10**12}.parquet").rename(second)
    for path in (first, data / "train-00000-of-00001.parquet"):
        shutil.copy(tmp_path / "kept.parquet", path)
    with pytest.raises(DataError, match="files of several versions"):
        open_reader(str(tmp_path / "hub"))


@pytest.mark.parametrize("maker", [making.make_parquet, making.make_arrow])
def test_paths_that_are_no_names(maker, tmp_path):
    images = making.table().column("image").to_pylist()
    odd = [{**images[0], "path": "n0000\0_1.JPEG"}, *images[1:]]
    reader = open_reader(str(maker(tmp_path / "nul", changed("image", odd))))
    assert "keys are FILE/ROW" in reader.notes[0]
    numbers = pa.array([{"bytes": each["bytes"], "path": 7} for each in images])
    made = making.table().set_column(0, "image", numbers)
    with pytest.raises(DataError, match="the paths in its column 'image' are int64, wanted text"):
        open_reader(str(maker(tmp_path / "int", made)))


def test_other_names_than_imagenets_import_no_timm(tmp_path):
    """Which takes seconds and 200 MB."""
    folder = making.make_parquet(tmp_path / "p")
    opened = "from pld.images.open_reader import open_reader; open_reader(sys.argv[1])"
    code = f"import sys; {opened}; print('timm' in sys.modules)"
    assert python("-c", code, folder, cwd=tmp_path).stdout == "False\n"
