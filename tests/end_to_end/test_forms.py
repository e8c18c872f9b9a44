"""A store that was made of one form of a dataset fits every other form, and students train from it."""

import numpy as np
import pytest

from pld.cli.main import _main
from pld.config import run
from tests.end_to_end.commands import LEARNING, cached, facts, metrics, training
from tests.images.sources.forms import making
from tests.making import NUM_CLASSES, make_teacher


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A store of the archive's images."""
    folder = tmp_path_factory.mktemp("forms")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLD_CACHE", str(folder / "cache"))
        make_teacher(folder / "teacher", spread=0.1)
        making.make_train_tar(folder / "archives" / "ILSVRC2012_img_train.tar")
        making.make_val_tar(folder / "archives" / "ILSVRC2012_img_val.tar")
        making.make_devkit(folder / "archives" / "ILSVRC2012_devkit_t12.tar.gz")
        cached(folder / "archives", folder / "teacher", folder / "store", "--allow_wrong_labels")
        yield folder


def parquet_shards(folder):
    hub = making.make_parquet(folder / "hub", val=making.val_table())
    for split in ("train", "val"):
        assert run(_main, ["data", str(hub), "--split", split, "--shards", str(folder / "out")]) == 0
    return folder / "out"


FORMS = {
    "archives": lambda folder: folder.parent / "archives",
    "kaggle": making.make_kaggle,
    "arrow": lambda folder: making.make_arrow_splits(folder, making.val_table()),
    "parquet, as shards": parquet_shards,
}
# One that is read where it lies, and one of which only shards are written; the others go the same two ways.
QUICK = ("archives", "parquet, as shards")


@pytest.mark.parametrize(
    "form", [form if form in QUICK else pytest.param(form, marks=pytest.mark.long) for form in FORMS]
)
def test_a_student_trains_from_a_form(form, world, tmp_path_factory):
    folder = world / form.replace(" ", "-")
    data, output = FORMS[form](folder), folder / "run"
    assert training(data, output, "--loss", "pld", "--store", world / "store", *LEARNING) == 0
    told = facts(output)
    assert (told["num_train"], told["num_val"], told["num_classes"]) == (making.NUM, making.NUM // 2, NUM_CLASSES)
    losses = [line["loss"] for line in metrics(output)]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.9 * losses[0]
