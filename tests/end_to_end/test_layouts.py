"""Datasets laid out wrongly: each run is right at once, or its message says what makes it right.

Each student learns colours for some epochs. Right is what it scores on images of the same colours: all of them.
"""

import gzip
import re
import shutil

import pytest

from pld.images import open_source
from tests.end_to_end.colours import NAMES, colour_folder, colour_tar, square
from tests.end_to_end.commands import LEARNING, metrics, training
from tests.making import write_tar

THREE = NAMES[:3]
NUMBERS = {name: number for number, name in enumerate(THREE)}


def kaggle(root):
    """The root of Kaggle's copy, which holds the folder of splits."""
    for split, first in (("train", 0), ("val", 100)):
        colour_folder(root / "Data" / "CLS-LOC" / split, THREE, 8, first)
    (root / "Annotations").mkdir()
    return root, [], None, None


def a_pattern_alone(root):
    """Tars of training images, and nothing else said."""
    data = colour_tar(root / "images-0000.tar", NUMBERS, 8)
    more = ["--num_classes", 3]
    return data, more, "training images too.*--val_share", lambda: (data, [*more, "--val_share", 0.3])


def unsplit(root):
    """Class folders without splits."""
    colour_folder(root, THREE, 8)
    return root, [], "training images too.*--val_share", lambda: (root, ["--val_share", 0.3])


def other_words(root):
    """Splits under other names, which are understood."""
    colour_folder(root / "Training", THREE, 8)
    colour_folder(root / "Validation", THREE, 3, 100)
    return root, [], None, None


def only_a_test_split(root):
    """seg_train and seg_test, as some data sets of Kaggle's have them."""
    colour_folder(root / "seg_train", THREE, 8)
    colour_folder(root / "seg_test", THREE, 3, 100)
    return root, [], "no split 'val'.*found seg_test, seg_train.*--val_split", lambda: (root, ["--val_split", "test"])


def a_class_that_validation_lacks(root):
    """No bee in validation: cats are no bees."""
    colour_folder(root / "train", THREE, 8)
    colour_folder(root / "val", ("ant", "cat"), 3, 100)
    return root, [], None, None


def a_class_that_training_lacks(root):
    colour_folder(root / "train", ("ant", "cat"), 8)
    colour_folder(root / "val", THREE, 3, 100)

    def mended():
        shutil.rmtree(root / "val" / "bee")
        return root, []

    return root, [], "val/bee: a class folder that the training split.*Rename or move it", mended


def tars_beside_folders(root):
    """What `pld data` once wrote, beside what it read."""
    colour_folder(root / "train", THREE, 8)
    colour_folder(root / "val", THREE, 3, 100)
    for number in (0, 1, 2):
        colour_tar(root / f"train-000{number}.tar", NUMBERS, 2, 10 * number)
    return root, [], r"'ant', 'bee', 'cat'.*'train-0000.tar'.*/train-{0000..0002}.tar', or the folder", lambda: (
        root / "train", ["--val_data", root / "val"],
    )  # fmt: skip


def compressed(root):
    """train-0000.tar, which is a .tar.gz under another name."""
    tar = colour_tar(root / "train-0000.tar", NUMBERS, 8)
    colour_tar(root / "val-0000.tar", NUMBERS, 3, 100)
    tar.write_bytes(gzip.compress(tar.read_bytes()))

    def mended():
        tar.write_bytes(gzip.decompress(tar.read_bytes()))
        return root, ["--num_classes", 3]

    return root, ["--num_classes", 3], "gzip", mended


def junk_and_strangers(root):
    """Unpacked on a Mac and looked at under Windows: nothing of that is an image or a class."""
    colour_folder(root / "train", THREE, 8)
    colour_folder(root / "val", THREE, 3, 100)
    for split in ("train", "val"):
        (root / split / "__MACOSX" / "ant").mkdir(parents=True)
        (root / split / "__MACOSX" / "ant" / "._000.png").write_bytes(b"\0\5\26\7")
        (root / split / "ant" / "._000.png").write_bytes(b"\0\5\26\7")
        (root / split / "bee" / "Thumbs.db").write_bytes(b"\0")
        (root / split / "cat" / "readme.txt").write_text("cats")
        (root / split / ".DS_Store").write_bytes(b"\0")
    return root, [], None, None


def flat_splits(root):
    """train/ and val/ full of images, without labels: into tars with a .cls for each, as the message says."""
    for split, first in (("train", 0), ("val", 100)):
        (root / split).mkdir(parents=True)
        for name in THREE:
            for i in range(4):
                (root / split / f"{name}{i}.png").write_bytes(square(NUMBERS[name], first + i))

    def mended():
        for split in ("train", "val"):
            images = {path.name: path.read_bytes() for path in (root / split).iterdir()}
            labels = {f"{name[:-4]}.cls": str(NUMBERS[name[:3]]).encode() for name in images}
            write_tar(root / f"{split}-0000.tar", images | labels)
            shutil.rmtree(root / split)
        return root, ["--num_classes", 3]

    return root, [], "images without labels.*--labels FILE.*tars with a .cls for each image", mended


LAYOUTS = [
    kaggle,
    a_pattern_alone,
    unsplit,
    other_words,
    only_a_test_split,
    a_class_that_validation_lacks,
    a_class_that_training_lacks,
    tars_beside_folders,
    compressed,
    junk_and_strangers,
    flat_splits,
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_right_run_or_a_message_after_which_it_is(tmp_path, capsys, layout):
    data, more, message, mended = layout(tmp_path / "data")
    code = training(data, tmp_path / "r", "--loss", "ce", *LEARNING, *more)
    if message:
        error = capsys.readouterr().err
        assert code == 2
        assert len(error.splitlines()) <= 4
        assert re.search(message, error), error
        data, more = mended()
        code = training(data, tmp_path / "r", "--loss", "ce", *LEARNING, *more)
    assert code == 0
    assert metrics(tmp_path / "r")[-1]["top1"] == 100.0
    if "--num_classes" not in more:
        assert open_source(str(data)).class_names == (
            ("ant", "cat") if layout is a_class_that_training_lacks else THREE
        )
