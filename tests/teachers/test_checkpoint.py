"""Weights as trainers save them: under prefixes, beside other things, with a moving average."""

import argparse
import re

import pytest
import safetensors.torch
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st

from pld.errors import TeacherError
from pld.teachers import build_teacher, tensors_digest, weights_digest
from pld.teachers.checkpoint import Checkpoint, fit_tensors, read_checkpoint
from tests.making import SIDE

NAME = "test_resnet"
PREFIXES = ("", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.", "model.backbone.")


def small(seed):
    torch.manual_seed(seed)
    return timm.create_model(NAME, num_classes=7)


PLAIN, AVERAGE = small(0), small(1)


def prefixed(prefix, model=PLAIN):
    return {prefix + name: tensor for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("entry", [None, "state_dict", "model", "model_state_dict", "student"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_any_prefix_in_any_entry(tmp_path, prefix, entry):
    tensors = prefixed(prefix)
    args = argparse.Namespace(lr=0.1, model=NAME)
    torch.save({entry: tensors, "epoch": 3, "args": args} if entry else tensors, tmp_path / "c.pth")
    fitting = fit_tensors(read_checkpoint(str(tmp_path / "c.pth")), PLAIN.state_dict(), NAME)
    assert fitting.note is None
    assert all(torch.equal(fitting.tensors[name], tensor) for name, tensor in PLAIN.state_dict().items())
    assert fitting.tensors.keys() == PLAIN.state_dict().keys()


def timms(plain, average):
    """As timm.utils.CheckpointSaver writes it."""
    optimizer = {"state": {0: {"momentum": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    args = argparse.Namespace(model=NAME)
    saved = {"epoch": 9, "arch": NAME, "state_dict": plain, "optimizer": optimizer, "args": args, "version": 2}
    return {**saved, "state_dict_ema": average, "metric": 71.3}


@pytest.mark.parametrize(
    "form", ["timm", "model_ema", "ema_state_dict", "torchvision", "lightning", "nested", "beside"]
)
def test_of_a_moving_average_it_says_so(tmp_path, form):
    plain, average = PLAIN.state_dict(), AVERAGE.state_dict()
    saved = {
        "timm": timms(plain, average),
        "model_ema": {"model": plain, "model_ema": average},
        "ema_state_dict": {"state_dict": prefixed("module."), "ema_state_dict": prefixed("module.", AVERAGE)},
        "torchvision": {"model": plain, "model_ema": {"n_averaged": torch.tensor(5), **prefixed("module.", AVERAGE)}},
        "nested": {"state_dict": plain, "ema": {"module": AVERAGE.state_dict(), "decay": 0.999}, "epoch": 3},
        "beside": {**plain, "ema": average},
        "lightning": {"state_dict": {**prefixed("model."), **prefixed("ema_model.", AVERAGE)}, "loops": {}},
    }[form]
    torch.save(saved, tmp_path / "c.pth")
    teacher = build_teacher(NAME, str(tmp_path / "c.pth"))
    assert teacher.weights_sha256 == weights_digest(AVERAGE)
    (note,) = teacher.notes
    assert "c.pth: the moving average " in note
    another = re.search(r"is loaded, not '\S+'; to load another, write --weights (\S+)$", note)[1]
    chosen = build_teacher(NAME, another)
    assert (chosen.weights_sha256, chosen.notes) == (weights_digest(PLAIN), ())


def test_of_two_equals_one_is_asked_for(tmp_path):
    torch.save({"student": PLAIN.state_dict(), "teacher": prefixed("module.", AVERAGE)}, tmp_path / "c.pth")
    with pytest.raises(
        TeacherError, match=r"contains 2 sets of weights for test_resnet: 'student', 'teacher\.module'; choose"
    ) as raised:
        build_teacher(NAME, str(tmp_path / "c.pth"))
    advised = re.search(r"such as --weights (\S+)$", str(raised.value))[1]
    assert build_teacher(NAME, advised).weights_sha256 == weights_digest(PLAIN)
    for entry in ("teacher", "teacher.module"):
        assert build_teacher(NAME, f"{tmp_path}/c.pth#{entry}").weights_sha256 == weights_digest(AVERAGE)
    with pytest.raises(TeacherError, match=r"is not in an entry 'ema', but in 'student', 'teacher\.module'"):
        build_teacher(NAME, f"{tmp_path}/c.pth#ema")


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("fc.bias", torch.ones(7, dtype=torch.int8), "fc.bias is int8, wanted floating-point numbers: quantised"),
        ("fc.bias", torch.ones(7).to(torch.float8_e4m3fn), "fc.bias is float8_e4m3fn, wanted floating-point"),
        ("fc.bias", torch.ones(7, dtype=torch.complex64), "fc.bias is complex64, wanted floating-point"),
        ("bn1.num_batches_tracked", torch.ones((), dtype=torch.complex64), "is complex64, wanted integer"),
        # Small files that ask for the memory of a large model.
        (
            "fc.weight",
            torch.zeros(1).expand(2_000_000_000, 32),
            r"fc.weight is \[2000000000, 32\], but the file does not",
        ),
        ("fc.weight", torch.zeros(2_000_000_000, 32, device="meta"), "fc.weight is .*, but the file does not"),
        ("fc.weight", torch.zeros(7, 32).to_sparse(), r"fc.weight is .*, but the file does not.*tensor.to_dense\(\)"),
        ("fc.weight", torch.zeros(2_000_000_000, 0), "size mismatch for fc.weight"),
    ],
)
@pytest.mark.filterwarnings("ignore:Validating sparse")
def test_numbers_that_are_not_the_models(tmp_path, name, tensor, message):
    found = next(own for own in PLAIN.state_dict() if own.endswith(name.removeprefix("bn1.")))
    torch.save({**PLAIN.state_dict(), found: tensor}, tmp_path / "c.pth")
    with pytest.raises(TeacherError, match=message):
        build_teacher(NAME, str(tmp_path / "c.pth"))


def test_half_precision_is_weights(tmp_path):
    torch.save({name: tensor.half() for name, tensor in PLAIN.state_dict().items()}, tmp_path / "c.pth")
    half = small(0).half().float().state_dict()
    assert build_teacher(NAME, str(tmp_path / "c.pth")).weights_sha256 == tensors_digest(half)


def test_what_is_left_out_is_named(tmp_path):
    torch.save({"state_dict": {**prefixed("model."), "loss.weight": torch.zeros(7)}}, tmp_path / "c.pth")
    teacher = build_teacher(NAME, str(tmp_path / "c.pth"))
    assert teacher.weights_sha256 == weights_digest(PLAIN)
    assert "also holds tensors that are not the model's, which are not loaded: 'loss.weight'" in teacher.notes[0]


def test_bytes_and_not_the_extension_say_what_a_file_is(tmp_path):
    torch.save(PLAIN.state_dict(), tmp_path / "pickle.safetensors")
    safetensors.torch.save_file(PLAIN.state_dict(), tmp_path / "safe.pth")
    torch.save(PLAIN.state_dict(), tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    for name in ("pickle.safetensors", "safe.pth", "old.bin"):
        assert build_teacher(NAME, str(tmp_path / name)).weights_sha256 == weights_digest(PLAIN)


def test_a_file_from_before_batch_norm_counted(tmp_path):
    tensors = {name: t for name, t in PLAIN.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert len(tensors) < len(PLAIN.state_dict())
    torch.save(tensors, tmp_path / "c.pth")
    images = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    teacher = build_teacher(NAME, str(tmp_path / "c.pth"))
    assert torch.equal(teacher.logits(images), PLAIN.eval()(teacher.preprocessing.normalize(images)))


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"epoch": 3}, r"it holds no tensors, besides 'epoch'; test_resnet has \d+ \("),
        ([1, 2], "holds a list, wanted tensors by name"),
        (small(0).state_dict()["conv1.0.weight"], "holds a Tensor, wanted tensors by name"),
        ({"state_dict": {"a": torch.zeros(2), "b": torch.zeros(3)}}, r"holds 2 tensors in 'state_dict' \('a', 'b'\)"),
        ({**prefixed(""), "extra": torch.zeros(2)}, r"it lacks none and has besides 'extra'\."),
        (
            {name: t for name, t in prefixed("").items() if name != "fc.bias"},
            r"it lacks 'fc.bias' and has besides none\. Name the architecture .*--teacher python:MODULE:FUNCTION",
        ),
        ({**prefixed(""), "fc.bias": torch.zeros(8)}, "fc.weight has 7, fc.bias has 8; wanted one number"),
        ({**prefixed(""), "conv1.0.weight": torch.zeros(5, 3, 3, 3)}, r"(?s)size mismatch for conv1\.0\.weight"),
    ],
)
def test_what_does_not_fit_says_what_it_holds(tmp_path, saved, message):
    torch.save(saved, tmp_path / "c.pth")
    with pytest.raises(TeacherError, match=message):
        build_teacher(NAME, str(tmp_path / "c.pth"))


NAMES = st.lists(st.sampled_from(["a", "b", "a.b", "b.a", "a.weight", "b.a.weight"]), min_size=1, unique=True)


@given(names=NAMES, prefix=st.sampled_from(PREFIXES), more=st.sampled_from(["head.x", "loss"]))
def test_only_the_models_own_names_are_taken(names, prefix, more):
    wanted = {name: torch.zeros(()) for name in names}
    held = {prefix + name: torch.tensor(float(i)) for i, name in enumerate(names)}
    fitting = fit_tensors(Checkpoint(where="file", sets={"": held}), wanted, "model")
    assert {name: float(tensor) for name, tensor in fitting.tensors.items()} == {n: i for i, n in enumerate(names)}
    # One name more at the same place is another model.
    with pytest.raises(TeacherError, match="another model"):
        fit_tensors(Checkpoint(where="file", sets={"": {**held, f"{prefix}{more}": torch.zeros(())}}), wanted, "model")
