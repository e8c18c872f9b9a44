import json

import pytest
import safetensors.torch
import timm
import torch

from pld.errors import TeacherError
from pld.teachers import ALIASES, build_teacher, weights_digest
from pld.teachers.weights import load_from_file
from pld.views.preprocessing import Preprocessing
from tests.making import NUM_CLASSES, SIDE, make_teacher


@pytest.fixture
def small(tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=7)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "weights.safetensors")
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    return model, tmp_path


def test_aliases_name_published_weights():
    assert {"vit_large", "vit_base", "resnet152"} <= set(ALIASES)
    for name in ALIASES.values():
        assert name in timm.list_pretrained(), name


def test_an_exported_folder_is_a_teacher(tmp_path):
    teacher = build_teacher(f"local-dir:{make_teacher(tmp_path / 'teacher')}")
    assert (teacher.architecture, teacher.num_classes) == ("resnet18", NUM_CLASSES)
    assert teacher.preprocessing.input_size == (SIDE, SIDE)
    assert not teacher.model.training
    assert not any(p.requires_grad for p in teacher.model.parameters())
    logits = teacher.logits(torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8))
    assert logits.shape == (2, NUM_CLASSES)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("file", ["weights.safetensors", "weights.pth"])
def test_weights_from_a_file(small, file):
    model, folder = small
    teacher = build_teacher("test_resnet", str(folder / file))
    assert teacher.num_classes == 7
    assert teacher.tag == ""
    assert teacher.weights_sha256 == weights_digest(model)


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "levit_128s"])
def test_two_classifiers_are_counted_once(tmp_path, name):
    """One learns from the labels, one from a teacher; in evaluation the model gives their mean."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    timm.models.save_for_hf(model, tmp_path / "folder", {}, safe_serialization=True)
    image = torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8)
    for named, weights in ((name, str(tmp_path / "weights.pth")), (f"local-dir:{tmp_path / 'folder'}", None)):
        teacher = build_teacher(named, weights)
        assert (teacher.num_classes, teacher.weights_sha256) == (7, weights_digest(model))
        assert torch.equal(teacher.logits(image), model(teacher.preprocessing.normalize(image)).detach())


def test_the_digest_is_of_the_weights(small):
    model, _ = small
    before = weights_digest(model)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-6
    assert weights_digest(model) != before


def test_pixels_are_normalised_as_the_teacher_wants(tmp_path):
    teacher = build_teacher(f"local-dir:{make_teacher(tmp_path / 'teacher')}")
    image = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    mean, std = (torch.tensor(v)[:, None, None] for v in (teacher.preprocessing.mean, teacher.preprocessing.std))
    torch.testing.assert_close(teacher.preprocessing.normalize(image), (image / 255 - mean) / std, atol=1e-5, rtol=0)


def test_channels_last_pixels_are_normalised_to_the_same_bits():
    """The fast path of CPUs, in pieces of rows, beside the plain one; also the memory that it uses again."""
    preprocessing = Preprocessing(mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.4))
    for num, height, width in ((1, 1, 1), (3, 224, 200), (40, 32, 48), (2, 5, 30_000)):
        images = torch.randint(0, 256, (num, 3, height, width), dtype=torch.uint8)
        fast = preprocessing.normalize(images.contiguous(memory_format=torch.channels_last))
        assert fast.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(fast, preprocessing.normalize(images))


def test_bf16_is_near_fp32(tmp_path):
    folder = make_teacher(tmp_path / "teacher")
    images = torch.randint(0, 256, (4, 3, SIDE, SIDE), dtype=torch.uint8)
    exact, rough = (build_teacher(f"local-dir:{folder}", precision=p).logits(images) for p in ("fp32", "bf16"))
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    assert (exact - rough).abs().max() < 0.05 * exact.abs().max()


class Hostile:
    def __reduce__(self):
        return (print, ("pickled code ran",))


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("vit_lagre", None, "unknown model 'vit_lagre'; nearest are .*vit_large"),
        ("resnet50.a9_in1k", None, "resnet50 has no weights 'a9_in1k'; it has .*a1_in1k"),
        ("local-dir:nowhere", None, "nowhere: no config.json"),
        ("test_resnet", "nowhere.pth", "nowhere.pth: no such file"),
        ("resnet18", "weights.safetensors", "weights of another model than resnet18"),
        ("test_resnet", "hostile.pth", "not only weights: a pickle of a whole model or .*print"),
        ("test_resnet", "short.safetensors", "damaged safetensors"),
        ("test_resnet", "empty.pth", "an empty file"),
    ],
)
def test_wrong_teachers(small, name, weights, message, capsys):
    _, folder = small
    torch.save({"model": Hostile()}, folder / "hostile.pth")
    (folder / "short.safetensors").write_bytes((folder / "weights.safetensors").read_bytes()[:1000])
    (folder / "empty.pth").write_bytes(b"")
    with pytest.raises(TeacherError, match=message):
        build_teacher(name, weights and str(folder / weights))
    assert "pickled code ran" not in capsys.readouterr().out


def test_no_network_says_what_to_do(monkeypatch):
    def refuse(*_, **__):
        raise OSError("We couldn't connect to 'https://huggingface.co'")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(TeacherError, match=r"vit_large.*(?s:.)*--weights FILE"):
        build_teacher("vit_large")


def test_a_repository_of_transformers_is_told_its_prefix(monkeypatch):
    def parse(*_, **__):
        return {}["architecture"]  # as timm looks for it in config.json

    monkeypatch.setattr(timm, "create_model", parse)
    with pytest.raises(TeacherError, match=r"not timm's.*; a classifier of transformers is transformers:google/vit$"):
        build_teacher("hf-hub:google/vit")


def test_a_folder_with_broken_weights_says_so(tmp_path):
    folder = make_teacher(tmp_path / "teacher")
    (folder / "model.safetensors").write_bytes(b"no")
    with pytest.raises(TeacherError, match=r"(?s)could not be loaded.*Wanted config.json and model.safetensors"):
        build_teacher(f"local-dir:{folder}")


def test_a_model_without_a_classifier_is_no_teacher(tmp_path):
    model = timm.create_model("test_resnet", num_classes=0)
    timm.models.save_for_hf(model, tmp_path / "features", {}, safe_serialization=True)
    with pytest.raises(TeacherError, match="features: has no classifier, only features; name an image classifier"):
        build_teacher(f"local-dir:{tmp_path / 'features'}")
    torch.save(model.state_dict(), tmp_path / "w.pth")
    with pytest.raises(TeacherError, match=r"^encoder: has no classifier, only features"):
        load_from_file(lambda _: timm.create_model("test_resnet", num_classes=0), str(tmp_path / "w.pth"), "encoder")


def test_an_unsupported_resize_is_refused(tmp_path):
    folder = make_teacher(tmp_path / "teacher")
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"]["interpolation"] = "lanczos"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(TeacherError, match="lanczos"):
        build_teacher(f"local-dir:{folder}")
