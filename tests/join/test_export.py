"""pld export: plain webdataset reads the store's numbers with their images, and the documented pipeline learns."""

import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import webdataset

from pld.cli.main import _main
from pld.config import run
from pld.errors import StoreError
from pld.images import open_source
from pld.images.dataset import read_image
from pld.join.export import export_with_images
from pld.join.match import stored_policy
from pld.store import open_store
from pld.views import View, apply_view, draw_view
from tests.making import NUM_CLASSES, SIDE, STUDENT, jpeg, make_dataset, make_store, make_teacher, write_tar
from tests.processes import ROOT, tree_bytes
from tests.store.world import World

# webdataset leaves closing tars to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
NUM = 71


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with data, a teacher's store of 2 views, and view 1 exported."""
    folder = tmp_path_factory.mktemp("world")
    make_dataset(folder / "data")
    make_teacher(folder / "teacher")
    make_store(folder, views=2, k=5)
    export(folder, folder / "out")
    return folder


def export(world, out, *, data=None, view=1):
    command = ["export", str(world / "store"), str(out), "--webdataset-with-images"]
    return run(_main, [*command, "--data", str(data or world / "data"), "--view", str(view)])


def shards(out):
    return sorted(map(str, Path(out).glob("*.tar")))


def test_samples_carry_the_images_bytes_the_views_box_and_the_stores_numbers(world):
    store, source = open_store(str(world / "store")), open_source(str(world / "data"))
    table, policy = store.load_view(1), stored_policy(store)
    rows = {key.decode(): row for row, key in enumerate(source.keys.tolist())}
    samples = list(webdataset.WebDataset(shards(world / "out"), shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == list(rows)
    for sample in samples:
        row = rows[sample["__key__"]]
        image = read_image(source, row)
        box = draw_view(source.key(row), 1, tuple(image.shape[1:]), policy)
        assert View(**sample["view.json"]) == box
        assert sample["cls"] == source.labels[row]
        topk = table[table.rows([source.key(row)])]
        assert np.array_equal(sample["topk.npy"][0], topk.classes[0].numpy())
        assert np.array_equal(sample["topk.npy"][1], topk.logprobs[0].numpy())
        assert np.array_equal(sample["rest.npy"], [*topk.label_logprob.tolist(), *topk.tail_logmass[0].tolist()])
    raw = list(webdataset.WebDataset(shards(world / "out"), shardshuffle=False))
    assert all(sample["jpg"] == source.read(rows[sample["__key__"]]) for sample in raw)
    about = json.loads((world / "out/export.json").read_text())
    assert (about["fingerprint"], about["view"]) == (store.manifest.identity.fingerprint, 1)


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")
@pytest.mark.filterwarnings("ignore:WebDataset.*shardshuffle")
def test_the_documented_pipeline_sees_the_teachers_pixels_and_learns(world):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/webdataset_pipeline.md").read_text(), re.DOTALL)
    torch.manual_seed(0)
    student = timm.create_model("resnet18", num_classes=NUM_CLASSES, **STUDENT)
    losses = []

    def normalize(images):
        return (images - 0.5) / 0.25

    optimizer = torch.optim.AdamW(student.parameters(), 3e-3)
    sizes = {"FOLDER": world / "out", "SHARDS": shards(world / "out"), "SIZE": SIDE, "BATCH_SIZE": 16}
    names = {**sizes, "student": student, "normalize": normalize, "optimizer": optimizer}
    for _ in range(8):
        exec(code, names)
        losses.append(float(names["loss"].detach()))
    assert losses[-1] < losses[0]
    source, policy = open_source(str(world / "data")), stored_policy(open_store(str(world / "store")))
    for sample in list(names["shards"].decode("torch", only=["cls", "view.json", "topk.npy", "rest.npy"]))[:9]:
        row = source.keys.tolist().index(sample["__key__"].encode())
        image = read_image(source, row)
        wanted = apply_view(image, draw_view(source.key(row), 1, tuple(image.shape[1:]), policy), SIDE)
        assert torch.equal(names["cut"](sample)[0], wanted)


def test_an_interrupted_export_goes_on_and_another_is_refused(world, tmp_path, capsys):
    assert export(world, tmp_path / "o") == 0
    whole = tree_bytes(tmp_path / "o")
    assert whole == tree_bytes(world / "out")
    Path(shards(tmp_path / "o")[1]).rename(tmp_path / "o/.train-0001.tar.tmp")
    assert export(world, tmp_path / "o") == 0
    assert tree_bytes(tmp_path / "o") == whole
    assert export(world, tmp_path / "o", view=0) == 2
    assert "another store or view" in capsys.readouterr().err
    assert export(world, tmp_path / "p", view=2) == 2
    assert "2 views are complete" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


def test_other_images_and_folders_with_other_tars_are_refused(world, tmp_path, capsys):
    others = make_dataset(tmp_path / "others")
    for path in sorted(others.glob("train-*.tar")):
        with tarfile.open(path) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}
        changed = {name: jpeg(9999, (39, 41)) if name.endswith("jpg") else data for name, data in members.items()}
        write_tar(path, changed)
    assert export(world, tmp_path / "o", data=others) == 2
    assert "re-encoded or resized since it was cached" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
    before = tree_bytes(others)
    assert export(world, others) == 2
    assert "train-0000.tar, which no export wrote" in capsys.readouterr().err
    assert tree_bytes(others) == before


def test_the_same_images_in_other_shards_are_another_export(world, tmp_path, capsys):
    first = open_source(str(world / "data")).shards[0]
    assert export(world, tmp_path / "o", data=world / "data" / f"{first.name}.tar") == 0
    assert export(world, tmp_path / "o") == 2
    assert "or of other image shards" in capsys.readouterr().err


def test_views_with_steps_are_refused(world, tmp_path):
    """An export carries crops: its readers would see other pixels than the teacher."""
    steps = {"steps": [{"name": "mixup", "alpha": 0.8}], "partners": "shard"}
    World(policy={"name": "random_resized_crop", **steps}).write(tmp_path / "store", 1)
    with pytest.raises(StoreError, match=r"not crops alone, but have steps: mixup\. .* or export one that was cached"):
        export_with_images(
            open_store(str(tmp_path / "store")), open_source(str(world / "data")), tmp_path / "o", 0, lambda _: None
        )
    assert not (tmp_path / "o").exists()


def test_a_url_is_no_folder_to_export_to(world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        export(world, "s3://bucket/x")
    assert "found the URL s3://bucket/x, wanted a path on this machine" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folders_dotted_names_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / f"{name}.x.jpg").write_bytes(jpeg(1))
    make_teacher(tmp_path / "teacher", num_classes=2)
    make_store(tmp_path, views=2, k=2)
    assert export(tmp_path, tmp_path / "o") == 2
    assert "2 keys have a dot, the first a/a.x" in capsys.readouterr().err


def test_a_png_stays_a_png(world, tmp_path):
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(jpeg(0, (36, 40)))).save(buffer, "PNG")
    data = write_tar(tmp_path / "data/train-0000.tar", {"train-0000.png": buffer.getvalue(), "train-0000.cls": b"0"})
    assert export(world, tmp_path / "o", data=data) == 0
    (sample,) = webdataset.WebDataset(shards(tmp_path / "o"), shardshuffle=False)
    assert sample["png"] == buffer.getvalue()
