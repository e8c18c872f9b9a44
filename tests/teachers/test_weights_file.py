"""Files that are no weights: each is recognised, and what is advised of it works."""

import io
import json
import re
import shlex
import zipfile
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from pld.errors import TeacherError
from pld.teachers import build_teacher, weights_digest
from pld.teachers.checkpoint import read_checkpoint
from train_student.loop.checkpoint import Checkpoints
from train_student.option_groups import ModelOptions
from train_student.run.init_from import open_initial_weights

NAME = "test_resnet"


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "."), data)
    return buffer.getvalue()


def arrays():
    buffer = io.BytesIO()
    np.savez(buffer, kernel=np.zeros(3))
    return buffer.getvalue()


FILES = {
    "empty.pth": (b"", "an empty file: a copy or download of it broke off; fetch it again"),
    "pointer.safetensors": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "a Git LFS pointer in place of the weights; fetch them with 'git lfs pull'",
    ),
    "page.pth": (b"\n<!DOCTYPE html>\n<html><head>", "a web page in place of the file; download the file itself"),
    "other_page.bin": (b"<html lang=en>", "a web page in place of the file"),
    "model.onnx": (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:", "an ONNX model; torch does not read it"),
    "onnx.pth": (b"\x08\x07\x12\x0cbackend-test:", "an ONNX model; torch does not read it"),
    "model.h5": (
        b"\x89HDF\r\n\x1a\n\0\0",
        "an HDF5 file, such as TensorFlow's and Keras's .h5; torch does not read it",
    ),
    "jax.npz": (arrays(), r"NumPy arrays \(.npz\), such as JAX's weights"),
    "array.npy": (b"\x93NUMPY\x01\0v\0", "a NumPy array"),
    "model.keras": (zipped(config__json="{}", model__weights__h5="x"), "a Keras archive"),
    "code.zip": (zipped(readme__md="x"), "a ZIP archive of 1 files, not of torch.save"),
    "weights.pth.gz": (b"\x1f\x8b\x08\0\0\0\0\0", "compressed with gzip; unpack it"),
    "model.safetensors.index.json": (b'{"metadata": {}, "weight_map": {}}', "a JSON file; name the weights beside it"),
    "model.gguf": (b"GGUF\x03\0\0\0", "a GGUF file"),
    "noise.pth": (bytes(range(200, 256)) * 9, "damaged, or no file of torch.save"),
    "cut.pth": (b"PK\x03\x04 and no more", "damaged, or no file of torch.save"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_weights_is_recognised(tmp_path, name):
    data, message = FILES[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(TeacherError, match=f"^{tmp_path / name}: {message}"):
        build_teacher(NAME, str(tmp_path / name))


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "w.pth").write_bytes(b"x")

    def refuse(*_, **__):
        raise PermissionError("no permission")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(TeacherError, match=r"w\.pth: cannot be read: no permission; correct its permissions"):
        build_teacher(NAME, str(tmp_path / "w.pth"))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"saved_model.pb": ""}, "a SavedModel of TensorFlow"),
        ({"config.json": json.dumps({"model_type": "vit"})}, "--teacher transformers:FOLDER$"),
        ({"config.json": json.dumps({"architecture": NAME})}, "--teacher local-dir:FOLDER$"),
        ({"readme.md": ""}, "FOLDER: a folder; --weights wants a .safetensors or .pth file"),
    ],
)
def test_a_folder_in_place_of_a_file(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(TeacherError, match=message.replace("FOLDER", str(tmp_path))):
        build_teacher(NAME, str(tmp_path))


@pytest.fixture
def run_folder(tmp_path):
    """A run as train_student leaves it: its model, and a checkpoint."""
    torch.manual_seed(0)
    model = timm.create_model(NAME, num_classes=7)
    timm.models.save_for_hf(model, tmp_path / "model", {}, safe_serialization=True)
    (tmp_path / "config.yaml").write_text("name: run\n")
    Checkpoints(tmp_path / "checkpoints", keep=1).save(12, {"learner": {"student": model.state_dict()}})
    return tmp_path


@pytest.mark.parametrize("file", ["model/config.json", "checkpoints/step-000000012.safetensors"])
def test_a_file_of_a_run_in_place_of_its_model(run_folder, file):
    path = str(run_folder / file)
    with pytest.raises(TeacherError, match="without --weights") as raised:
        build_teacher(NAME, path)
    advised = re.search(r"local-dir:[^, ]+", str(raised.value))[0]
    assert build_teacher(advised).num_classes == 7
    with pytest.raises(TeacherError, match=r"its (run's )?folder: --init_from ") as raised:
        read_checkpoint(path, "--init_from")
    advised = str(raised.value).rpartition("--init_from ")[2]
    assert open_initial_weights(ModelOptions(name=NAME, init_from=advised)).class_names is None


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("form", ["model", "trainer's", "net"])
def test_the_command_that_takes_weights_out_of_a_pickle(tmp_path, form, new):
    model = timm.create_model(NAME, num_classes=7)
    metric, entry = np.float64(71.3), "net" if form == "net" else "state_dict"
    saved = model if form == "model" else {entry: model.state_dict(), "metric": metric, "logs": {"best": metric}}
    torch.save(saved, tmp_path / "c.pth", _use_new_zipfile_serialization=new)
    with pytest.raises(TeacherError, match="not only weights: a pickle") as raised:
        build_teacher(NAME, str(tmp_path / "c.pth"))
    command = re.search(r"take the weights out once: (python .*)$", str(raised.value))[1]
    *_, program = shlex.split(command)
    exec(program, {})
    assert build_teacher(NAME, str(tmp_path / "c-weights.pth")).weights_sha256 == weights_digest(model)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_torchscript_program_by_a_function(tmp_path, monkeypatch):
    model = timm.create_model(NAME, num_classes=7).eval()
    path = tmp_path / "model.pt"
    torch.jit.save(torch.jit.trace(model, torch.zeros(1, 3, 32, 32)), path)
    with pytest.raises(TeacherError, match=r"a TorchScript program.*--teacher python:MODULE:FUNCTION$") as raised:
        build_teacher(NAME, str(path))
    load = re.search(r"torch\.jit\.load\('[^']+'\)", str(raised.value))[0]
    (tmp_path / "scripted_model.py").write_text(
        f"import torch\ndef build():\n    return {load}, {{'input_size': [32, 32]}}\n"
    )
    monkeypatch.chdir(tmp_path)
    teacher = build_teacher("python:scripted_model:build")
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.allclose(teacher.logits(images), model(teacher.preprocessing.normalize(images)), atol=1e-5)
