"""What each form must do: read as the folder of the same photos is, and go to shards and train from them alike."""

import numpy as np
import pytest

from pld.cli.main import _main
from pld.config import run
from pld.errors import ConfigError
from pld.images import open_source
from pld.images.open_reader import open_reader
from pld.images.reader import ImageReader
from tests.images.sources.forms import making

# Each form's maker, the split, and whether it is Parquet, which only shards are written of.
TRAIN = {
    "folder": making.make_folder,
    "tar of tars": lambda folder: making.make_train_tar(folder / "ILSVRC2012_img_train.tar"),
    "folder of archives": lambda folder: making.make_train_tar(folder / "ILSVRC2012_img_train.tar").parent,
    "kaggle": making.make_kaggle,
    "kaggle, CLS-LOC": lambda folder: making.make_kaggle(folder) / "ILSVRC" / "Data" / "CLS-LOC",
    "csv": lambda folder: making.make_csv(folder / "train.csv"),
    "csv without a header": lambda folder: making.make_csv(folder / "train.csv", header=False),
    "csv of numbers": lambda folder: making.make_csv(folder / "train.csv", numbers=True),
    "parquet": making.make_parquet,
    "parquet, a pattern": lambda folder: making.make_parquet(folder) / "data" / "train-*.parquet",
    "parquet, braces": lambda folder: making.make_parquet(folder) / "data" / "train-{00000..00001}-of-00002.parquet",
    "arrow": making.make_arrow,
    "arrow, splits": making.make_arrow_splits,
}
VAL = {
    "kaggle": making.make_kaggle,
    "kaggle, the folder itself": lambda folder: making.make_kaggle(folder) / "ILSVRC" / "Data" / "CLS-LOC" / "val",
    "devkit": lambda folder: (
        making.make_devkit(folder / "ILSVRC2012_devkit_t12.tar.gz")
        and making.make_val_tar(folder / "ILSVRC2012_img_val.tar")
    ),
}


def read(reader: ImageReader) -> dict[str, tuple[str | int, bytes]]:
    """Class and bytes by key, as a writer of shards reads them."""
    ends = np.cumsum(reader.shard_sizes)
    units = [np.arange(end - size, end)[::-1] for size, end in zip(reader.shard_sizes, ends, strict=True) if size]
    rows = np.concatenate(units).tolist()
    assert sorted(rows) == list(range(len(reader.keys)))
    contents = [bytes(content) for content in reader.read_units(iter(units))]
    names = reader.class_names
    found = {}
    for row, content in zip(rows, contents, strict=True):
        label = None if reader.labels is None else int(reader.labels[row])
        found[reader.keys[row].decode()] = (names[label] if names else label, content)
        assert reader.num_bytes(row) in (None, len(content))
        assert reader.keys[row].decode() in reader.where(row)
    return found


def last_names(found):
    return {key.rpartition("/")[2]: value for key, value in found.items()}


@pytest.mark.parametrize("form", TRAIN)
def test_a_form_reads_as_the_folder_does(form, tmp_path):
    location = TRAIN[form](tmp_path / "data")
    reader = open_reader(str(location), "train")
    assert isinstance(reader, ImageReader)
    found = last_names(read(reader))
    wanted = making.photos()
    if "numbers" in form:
        wanted = {key: (making.WNIDS.index(wnid), data) for key, (wnid, data) in wanted.items()}
        assert reader.class_names is None
    else:
        assert reader.class_names == making.WNIDS
    assert found == wanted
    exact = "csv" not in form  # a CSV's keys have the folders of its paths
    assert (set(map(bytes.decode, reader.keys.tolist())) == wanted.keys()) == exact


@pytest.mark.parametrize("form", VAL)
def test_validation_images_get_their_labels(form, tmp_path):
    reader = open_reader(str(VAL[form](tmp_path / "data")), "val")
    assert read(reader) == making.val_photos()
    assert reader.class_names == making.WNIDS
    assert "labels are those of" in reader.notes[0]


@pytest.mark.parametrize("form", [*TRAIN, "devkit"])
def test_labels_that_are_not_wanted_are_left_out(form, tmp_path):
    location, split = str((TRAIN | VAL)[form](tmp_path / "data")), "val" if form == "devkit" else "train"
    reader = open_reader(location, split, unlabelled=True)
    assert (reader.labels, reader.class_names) == (None, None)
    labelled = read(open_reader(location, split))
    assert read(reader) == {key: (None, content) for key, (_, content) in labelled.items()}
    command = ["data", location, "--split", split, "--unlabelled", "--shards", str(tmp_path / "out")]
    assert run(_main, command) == 0
    assert read(open_source(str(tmp_path / "out"), split, unlabelled=True)) == read(reader)


def test_files_without_a_column_of_labels(tmp_path):
    bare = making.table().drop_columns("label")
    for reader in (
        open_reader(str(making.make_parquet(tmp_path / "parquet", bare)), unlabelled=True),
        open_reader(str(making.make_arrow(tmp_path / "arrow", bare)), unlabelled=True),
    ):
        assert {key: content for key, (_, content) in read(reader).items()} == {
            key: content for key, (_, content) in making.photos().items()
        }


def test_labels_and_none_contradict_each_other(tmp_path):
    with pytest.raises(ConfigError, match=r"--labels x.csv and --unlabelled: give one of them"):
        open_source(str(making.make_folder(tmp_path)), labels="x.csv", unlabelled=True)


@pytest.mark.parametrize("form", [form for form in TRAIN if form != "folder"])
def test_a_form_goes_to_shards(form, tmp_path):
    location = TRAIN[form](tmp_path / "data")
    command = ["data", str(location), "--shards", str(tmp_path / "out"), "--shard_samples", "25"]
    assert run(_main, command) == 0
    shards = open_source(str(tmp_path / "out"))
    assert shards.shard_sizes == (25, 25, 10)
    assert read(shards) == read(open_reader(str(location), "train"))
    assert len(set(shards.labels[:25].tolist())) > 6  # of 12 classes, though the input is sorted by class
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert run(_main, command) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("form", ["tar of tars", "csv"])
def test_class_names_renumber_classes(form, tmp_path):
    location = TRAIN[form](tmp_path / "data")
    names = tuple(reversed(making.WNIDS))
    source = open_source(str(location), class_names=names)
    assert source.class_names == names
    assert last_names(read(source)) == making.photos()


def test_default_class_names_yield_to_the_files_own(tmp_path):
    """As validation data is opened, with the training data's names."""
    other = tuple(reversed(making.WNIDS))
    assert open_source(str(making.make_arrow(tmp_path / "a")), default_class_names=other).class_names == making.WNIDS
    unnamed = making.make_arrow(tmp_path / "b", making.table().replace_schema_metadata(None))
    assert open_source(str(unnamed), default_class_names=other).class_names == other
