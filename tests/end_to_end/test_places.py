"""However a dataset's place is written, and whatever lies around it: the same samples, or a word."""

import json
import re
import shutil

import numpy as np
import pytest

from pld.errors import DataError, OutputError
from pld.images import open_source
from pld.images.shards.write import write_shards
from tests.end_to_end.colours import NAMES, colour_folder, colour_tar
from tests.end_to_end.commands import LEARNING, cached, metrics, training

THREE = NAMES[:3]
NUMBERS = {name: number for number, name in enumerate(THREE)}


def same(one, other):
    return one.keys.tolist() == other.keys.tolist() and one.labels.tolist() == other.labels.tolist()


@pytest.mark.parametrize("way", [".", "..", "../train", "train/.", "link"])
def test_a_place_is_the_same_however_it_is_written(tmp_path, monkeypatch, way):
    data = colour_folder(tmp_path / "d" / "train", THREE)
    colour_folder(tmp_path / "d" / "val", ("ant", "cat"), 2, 100)
    (tmp_path / "d" / "dataset.json").write_text(json.dumps({"class_names": THREE[::-1]}))
    (tmp_path / "d" / "link").symlink_to(data)
    wanted = open_source(str(data))
    monkeypatch.chdir({"train/.": tmp_path / "d", "link": tmp_path / "d", "..": data / "ant"}.get(way, data))
    assert same(open_source(way), wanted)
    assert wanted.key(0) == "ant/000"
    assert wanted.shards[0].name == "train-000000"


def test_tars_of_two_folders_have_one_list_of_classes(tmp_path):
    for folder, names in (("a", THREE), ("b", THREE[::-1])):
        colour_tar(tmp_path / folder / "t-0.tar", NUMBERS, 2, 10 * ord(folder))
        (tmp_path / folder / "dataset.json").write_text(json.dumps({"class_names": names}))
    with pytest.raises(DataError, match=r"number different classes, by .*a/dataset.json', .*b/dataset.json"):
        open_source(str(tmp_path / "{a,b}/t-0.tar"))
    (tmp_path / "b" / "dataset.json").unlink()
    with pytest.raises(DataError, match="number different classes"):
        open_source(str(tmp_path / "{a,b}/t-0.tar"))
    shutil.copy(tmp_path / "a" / "dataset.json", tmp_path / "b")
    assert len(open_source(str(tmp_path / "{a,b}/t-0.tar"))) == 12


def test_names_from_one_folder_up_are_told(tmp_path):
    colour_tar(tmp_path / "other" / "0.tar", NUMBERS, 2)
    (tmp_path / "dataset.json").write_text(json.dumps({"class_names": THREE}))
    source = open_source(str(tmp_path / "other" / "0.tar"))
    assert source.class_names == THREE
    assert any("named by" in note and "one folder up" in note for note in source.notes)
    (tmp_path / "other").rename(tmp_path / "train")
    assert open_source(str(tmp_path / "train")).notes == ()


@pytest.mark.parametrize("what", ["a dangling class", "a loop", "a compressed shard", "two splits in one folder"])
def test_what_would_be_lost_is_an_error(tmp_path, what):
    data = tmp_path / "d"
    message = "a dangling link"
    if what == "a dangling class":
        (colour_folder(data, THREE) / "cow").symlink_to(tmp_path / "nowhere")
    elif what == "a loop":
        (colour_folder(data, THREE) / "loop").symlink_to("loop")
    elif what == "a compressed shard":
        colour_tar(data / "train-0000.tar", NUMBERS, 2)
        (data / "train-0001.tar.gz").write_bytes(b"\x1f\x8b")
        message = "train-0001.tar.gz: compressed"
    else:
        for name in ("train-0000", "val-0000"):
            colour_tar(data / "train" / f"{name}.tar", NUMBERS, 2, len(name))
        message = "holds tars of several splits, 'train', 'val'"
    with pytest.raises(DataError, match=message):
        open_source(str(data))


def test_classes_beside_a_split_are_told(tmp_path):
    """A class named train that has folders of its own, as a split has."""
    colour_folder(tmp_path, ("bee", "cat"))
    colour_folder(tmp_path / "train", ("ant", "dog"))
    assert any(
        "'bee', 'cat' hold images next to the split 'train'" in note for note in open_source(str(tmp_path)).notes
    )


def test_another_split_than_the_folders_name_is_told(tmp_path):
    colour_folder(tmp_path / "train", THREE)
    assert any("'val' was requested" in note for note in open_source(str(tmp_path / "train"), "val").notes)
    assert open_source(str(tmp_path / "train")).notes == ()


def test_left_out_files_are_told_by_both_stages(tmp_path, teacher, capsys):
    data = colour_folder(tmp_path / "d" / "train", THREE)
    colour_folder(tmp_path / "d" / "val", THREE, 2, 100)
    (data / "ant" / "000.png").rename(data / "ant" / "000.jfif")
    cached(tmp_path / "d", teacher, tmp_path / "s")
    assert "left out 1 .jfif" in capsys.readouterr().err
    assert training(tmp_path / "d", tmp_path / "r", "--store", tmp_path / "s") == 0
    assert "left out 1 .jfif" in capsys.readouterr().out


class TestResume:
    def run(self, tmp_path, *more):
        few = ("--loss", "ce", "--epochs", 4, "--checkpoint_steps", 1, "--resume", "auto")
        return training(tmp_path / "d", tmp_path / "r", *few, *more)

    @pytest.mark.parametrize("change", ["order", "folder", "names", None])
    def test_other_labels_are_refused(self, tmp_path, capsys, change):
        for split, first in (("train", 0), ("val", 100)):
            colour_folder(tmp_path / "d" / split, THREE, 8, first)
        names = tmp_path / "names.txt"
        names.write_text("\n".join(THREE))
        assert self.run(tmp_path, "--class_names", names) == 0
        (tmp_path / "r" / "metrics.jsonl").write_text("")  # as if it had been stopped
        if change == "order":
            names.write_text("\n".join(THREE[::-1]))
        elif change == "folder":
            for split in ("train", "val"):
                (tmp_path / "d" / split / "ant").rename(tmp_path / "d" / split / "zebra")
            names.write_text("zebra\nbee\ncat")
        elif change == "names":
            (tmp_path / "d" / "train" / "ant" / "000.png").rename(tmp_path / "d" / "train" / "ant" / "x.png")
        code = self.run(tmp_path, "--class_names", names)
        assert code == (2 if change else 0)
        if change:
            assert "the training images' keys, labels or class names (digest" in capsys.readouterr().err


class TestAValidationStore:
    def world(self, tmp_path, teacher):
        data = tmp_path / "d"
        colour_folder(data / "train", THREE, 8)
        for name, other in zip(THREE, NAMES[3:6], strict=True):  # other images, not noise alone
            (colour_folder(data / "val", (other,), 8) / other).rename(data / "val" / name)
        cached(data, teacher, tmp_path / "s")
        return data

    @pytest.mark.parametrize(
        ("made_of", "message"),
        [
            (("--split", "train", "--policy", "fixed"), "is not what the teacher saw"),
            (("--split", "val"), "its views are random crops"),
            (("--split", "val", "--policy", "fixed"), None),
        ],
    )
    def test_is_of_the_validation_images(self, tmp_path, teacher, capsys, made_of, message):
        """Images numbered anew in each split have the same keys, so a store of the training images has them all."""
        data = self.world(tmp_path, teacher)
        cached(data, teacher, tmp_path / "v", *made_of, "--allow_wrong_labels")
        code = training(data, tmp_path / "r", "--store", tmp_path / "s", "--val_store", tmp_path / "v")
        assert code == (2 if message else 0)
        if message:
            assert message in capsys.readouterr().err
        else:
            assert "kl" in metrics(tmp_path / "r")[-1]

    def test_that_lacks_images_says_what_helps(self, tmp_path, teacher, capsys):
        data = self.world(tmp_path, teacher)
        cached(data, teacher, tmp_path / "v", "--split", "val", "--policy", "fixed", "--allow_wrong_labels")
        colour_folder(data / "val", THREE, 9, 100)
        both = ("--store", tmp_path / "s", "--val_store", tmp_path / "v", "--missing", "skip")
        assert training(data, tmp_path / "r", *both) == 2
        error = capsys.readouterr().err
        assert re.search("lacks 3 of the 27 images.*or leave --val_store out", error)
        assert training(data, tmp_path / "r", *both[:2]) == 0


def test_validation_tars_keep_their_own_order(tmp_path, teacher):
    """--class_names is for tars that state none: others are matched by name."""
    train = colour_tar(tmp_path / "t" / "images.tar", NUMBERS, 8)
    val = colour_tar(tmp_path / "v" / "images.tar", {name: 2 - number for name, number in NUMBERS.items()}, 3, 100)
    (tmp_path / "v" / "dataset.json").write_text(json.dumps({"class_names": THREE[::-1]}))
    (tmp_path / "names.txt").write_text("\n".join(THREE))
    more = ("--class_names", tmp_path / "names.txt", "--val_data", val, "--loss", "ce", *LEARNING)
    assert training(train, tmp_path / "r", *more) == 0
    assert metrics(tmp_path / "r")[-1]["top1"] == 100.0


def test_trained_images_under_longer_paths_are_no_validation(tmp_path, capsys):
    data = colour_folder(tmp_path / "d" / "train", THREE, 8).parent
    val = tmp_path / "all" / "images"
    shutil.copytree(data, val)
    for name in ("one", "two"):
        (tmp_path / "all" / name).mkdir()
    shutil.move(val / "train", tmp_path / "all" / "val")
    (tmp_path / "names.txt").write_text("val")
    assert training(data, tmp_path / "r", "--loss", "ce", "--val_data", tmp_path / "all") == 2
    assert "24 of the 24 images" in capsys.readouterr().err


def test_a_share_that_takes_a_class_is_told(tmp_path, capsys):
    colour_folder(tmp_path / "d", ("ant", "bee"), 10)
    colour_folder(tmp_path / "d", ("cat",), 1)
    told = []
    for share in np.arange(0.05, 0.95, 0.05):
        run = tmp_path / f"r{share:.2f}"
        if training(tmp_path / "d", run, "--loss", "ce", "--val_share", round(share, 2), "--batch_size", 2) == 0:
            lost = "holds out every image of 1 classes: 'cat'" in capsys.readouterr().out
            told.append(lost)
        if any(told):
            break
    assert any(told)


def test_shards_under_another_word_are_refused_and_changed_bytes_are_seen(tmp_path):
    data = colour_folder(tmp_path / "d" / "val", THREE, 4).parent
    write_shards(open_source(str(data), "val"), tmp_path / "o", "val", 5, lambda _: None)
    with pytest.raises(OutputError, match="has the split 'validation' as 'val' already"):
        write_shards(open_source(str(data), "val"), tmp_path / "o", "validation", 5, lambda _: None)
    (data / "val" / "ant" / "000.png").write_bytes(b"another image")
    with pytest.raises(OutputError, match="or other bytes"):
        write_shards(open_source(str(data), "val"), tmp_path / "o", "val", 5, lambda _: None)
