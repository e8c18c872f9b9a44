"""Teachers of transformers: their logits are its own pipeline's, and what it would do silently is refused."""

import copy
import json
import re
import sys

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image

from pld.classes.names import imagenet_names
from pld.errors import ConfigError, TeacherError
from pld.teachers import build_teacher, weights_digest
from pld.teachers.image_processor import read_preprocessing
from tests.teachers.classifiers import FORMS, LABELS, SIDE, VIT, save
from tests.teachers.making import photo


@pytest.mark.parametrize("form", FORMS)
def test_the_logits_are_its_own_pipelines(tmp_path, form):
    model, processor = save(tmp_path, form)
    teacher = build_teacher(f"transformers:{tmp_path}")
    assert teacher.architecture == f"transformers:{FORMS[form][0]}"
    assert (teacher.tag, teacher.num_classes, teacher.class_names) == ("", 5, LABELS)
    assert not teacher.names_inferred
    assert teacher.weights_sha256 == weights_digest(model)
    assert teacher.preprocessing.input_size == (SIDE, SIDE)
    assert ("squeezes a whole image into 32 x 32 pixels" in " ".join(teacher.notes)) == (form in ("vit", "deit"))
    images = torch.stack([photo(SIDE, seed) for seed in range(3)])
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    pixels = processor(images=pictures, do_resize=False, do_center_crop=False, return_tensors="pt")
    with torch.no_grad():
        theirs = model(**pixels).logits
    assert torch.allclose(teacher.logits(images), theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("labels", "names", "inferred", "note"),
    [
        (None, None, True, None),
        (
            ("a", "b", "b", "c", "c"),
            None,
            True,
            "its id2label: class 2 is 'b'; wanted a name for each class, each name once",
        ),
        (("a", "", "b", "c", "d"), None, True, "its id2label: class 1 is ''; wanted a name for each class"),
        (timm.data.ImageNetInfo("imagenet-1k").label_descriptions(), imagenet_names("imagenet-1k"), False, None),
        ([f"LABEL_{i}" for i in range(1000)], imagenet_names("imagenet-1k"), True, None),
    ],
    ids=["placeholders", "repeated", "empty", "ImageNet's", "1000 placeholders"],
)
def test_class_names(tmp_path, labels, names, inferred, note):
    save(tmp_path, labels=labels)
    teacher = build_teacher(f"transformers:{tmp_path}")
    assert (teacher.class_names, teacher.names_inferred) == (names, inferred)
    assert note is None or note in teacher.notes[-1]


def test_class_numbers_with_a_gap_name_no_class(tmp_path):
    save(tmp_path)
    edit(tmp_path / "config.json", id2label={"0": "ant", "1": "bee", "2": "cat", "3": "dog", "9": "eel"}, label2id={})
    teacher = build_teacher(f"transformers:{tmp_path}")
    assert (teacher.num_classes, teacher.class_names, teacher.names_inferred) == (5, None, True)
    assert "its id2label numbers classes 0 to 9, wanted 0 to 4; its classes are known by number" in teacher.notes[-1]


def test_weights_in_half_precision_are_the_same_in_single(tmp_path):
    model, _ = save(tmp_path)
    model.half().save_pretrained(tmp_path)
    teacher = build_teacher(f"transformers:{tmp_path}")
    assert teacher.weights_sha256 == weights_digest(model.float())


def test_in_bfloat16_and_as_a_copy(tmp_path):
    save(tmp_path)
    images = torch.stack([photo(SIDE, seed) for seed in range(3)])
    exact, rough = (build_teacher(f"transformers:{tmp_path}", precision=name) for name in ("fp32", "bf16"))
    assert torch.equal(copy.deepcopy(exact).logits(images), exact.logits(images))
    assert rough.logits(images).dtype == torch.float32
    difference = (rough.logits(images) - exact.logits(images)).abs().max()
    assert 0 < difference < 0.05 * exact.logits(images).abs().max()


def edit(path, **changes):
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, **changes}))


def without_classifier(folder):
    transformers.ViTModel(transformers.ViTConfig(**VIT)).save_pretrained(folder)


def with_code(folder):
    edit(folder / "config.json", auto_map={"AutoConfig": "mine.C", "AutoModelForImageClassification": "mine.M"})
    edit(folder / "config.json", model_type="mine")
    (folder / "mine.py").write_text("print('code of a stranger ran')\n")


def pickled(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"classifier.weight": print}, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_classifier, "lack 2 tensors of ViTForImageClassification: 'classifier.bias', 'classifier.weight'"),
        (with_code, "It brings code of its own, which is never run"),
        (pickled, "AutoModelForImageClassification cannot read it"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "AutoImageProcessor cannot read it"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no"), "AutoModelForImageClass.* cannot read it"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: not readable as JSON"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json; wanted a model's folder"),
        (lambda folder: edit(folder / "config.json", model_type="bert"), "AutoModelForImageClass.* cannot read it"),
        (
            lambda folder: edit(folder / "config.json", problem_type="multi_label_classification"),
            "a ranking needs a classifier with one label an image",
        ),
        (
            lambda folder: edit(folder / "config.json", quantization_config={"quant_method": "bitsandbytes"}),
            "says quantized weights",
        ),
        (lambda folder: edit(folder / "preprocessor_config.json", resample=1), "has resample 1; supported are 2"),
        (lambda folder: edit(folder / "preprocessor_config.json", do_resize=False), "resizes nothing"),
    ],
)
def test_what_is_refused(tmp_path, capsys, change, message):
    save(tmp_path)
    change(tmp_path)
    with pytest.raises(TeacherError, match=f"(?s)^(transformers:)?{tmp_path}.*{message}"):
        build_teacher(f"transformers:{tmp_path}")
    assert "code of a stranger ran" not in capsys.readouterr().out


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_strangers_attention_kernel_is_not_fetched(tmp_path, monkeypatch, key):
    save(tmp_path)
    wanted = build_teacher(f"transformers:{tmp_path}")
    edit(tmp_path / "config.json", **{key: "stranger/kernel"})
    found = build_teacher(f"transformers:{tmp_path}")
    assert found.weights_sha256 == wanted.weights_sha256
    assert found.model.classifier.config._attn_implementation == "sdpa"


def test_its_configuration_is_part_of_its_identity(tmp_path):
    """The same weights with another activation are another teacher."""
    save(tmp_path)
    first = build_teacher(f"transformers:{tmp_path}")
    assert build_teacher(f"transformers:{tmp_path}").code_sha256 == first.code_sha256
    edit(tmp_path / "config.json", hidden_act="relu")
    other = build_teacher(f"transformers:{tmp_path}")
    assert other.weights_sha256 == first.weights_sha256
    assert other.code_sha256 != first.code_sha256


def test_names_and_options_that_do_not_go(tmp_path):
    for name in ("transformers:", "transformers:a/b/c", "transformers:./nowhere", "transformers:/nowhere"):
        with pytest.raises(TeacherError, match=f"^{name}: no such folder; wanted a model's folder, or a repository's"):
            build_teacher(name)
    with pytest.raises(TeacherError, match=r"the model's folder has its weights; leave --weights out"):
        build_teacher(f"transformers:{tmp_path}", "weights.pth")


def test_without_the_extra_it_says_which(tmp_path, monkeypatch):
    save(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"--teacher transformers:.* needs transformers: pip install '\.\[transform"):
        build_teacher(f"transformers:{tmp_path}")


def test_without_a_network_it_says_what_to_do(monkeypatch):
    def refuse(*_, **__):
        raise OSError("We couldn't connect to 'https://huggingface.co' to load the files")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", refuse)
    advice = re.escape(
        "'hf download google/vit --local-dir FOLDER') and name the folder: --teacher transformers:FOLDER"
    )
    with pytest.raises(TeacherError, match=f"(?s)^transformers:google/vit: AutoConfig cannot read it.*{advice}"):
        build_teacher("transformers:google/vit")


@pytest.mark.parametrize(
    ("kind", "settings", "mean", "std"),
    [
        ("ViT", {"do_normalize": False}, 0.0, 1.0),
        ("ViT", {"do_rescale": False, "image_mean": [51] * 3, "image_std": [102] * 3}, 0.2, 0.4),
        ("EfficientNet", {"resample": 3}, 0.5, 0.25),
        ("EfficientNet", {"resample": 3, "include_top": False}, 0.5, 0.5),
        ("EfficientNet", {"resample": 3, "rescale_offset": True, "rescale_factor": 1 / 127.5}, 0.75, 0.125),
    ],
)
def test_colours(kind, settings, mean, std):
    """read_preprocessing compares with the processor's own pixels."""
    processor = getattr(transformers, f"{kind}ImageProcessor")(size={"height": SIDE, "width": SIDE}, **settings)
    preprocessing, _ = read_preprocessing(processor, "it")
    assert np.allclose(preprocessing.mean, mean)
    assert np.allclose(preprocessing.std, std)


@pytest.mark.parametrize(
    ("kind", "settings", "input_size", "fraction"),
    [
        ("ConvNext", {"size": {"shortest_edge": 384}}, 384, 1.0),
        ("ConvNext", {"size": {"shortest_edge": 224}}, 224, 224 / 256),
        ("Levit", {}, 224, 224 / 256),
        ("PoolFormer", {}, 224, 224 / 248),
        ("Bit", {"size": {"shortest_edge": 256}}, 224, 224 / 256),
        ("Beit", {"do_center_crop": True, "size": {"height": 256, "width": 256}}, 224, 224 / 256),
    ],
)
def test_geometry(kind, settings, input_size, fraction):
    processor = getattr(transformers, f"{kind}ImageProcessor")(**settings)
    preprocessing, _ = read_preprocessing(processor, "it")
    assert (preprocessing.input_size, preprocessing.crop_fraction) == ((input_size, input_size), fraction)


class Brighter(transformers.ViTImageProcessor):
    def normalize(self, image, mean, std, **kwargs):
        return super().normalize(image, mean, std, **kwargs) + 0.1


class Shifted(transformers.ViTImageProcessor):
    def __call__(self, images, **kwargs):
        return super().__call__([image.crop((8, 0, *image.size)) for image in images], **kwargs)


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (transformers.MobileViTImageProcessor(), r"swaps red and blue \(do_flip_channel_order\)"),
        (transformers.ImageGPTImageProcessor(), "replaces colours by the nearest of a palette"),
        (transformers.PerceiverImageProcessor(), "resizes to 224 x 224 and crops 256 x 256, which pads"),
        (transformers.BitImageProcessor(do_center_crop=False), "resizes the shorter side and crops nothing"),
        (transformers.ViTImageProcessor(size={"max_height": 9, "max_width": 9}), "has the size {'max_height': 9"),
        (transformers.ViTImageProcessor(size={"height": 9999, "width": 9}), "has the size {'height': 9999"),
        (transformers.PoolFormerImageProcessor(crop_pct="0.9"), "has crop_pct '0.9', wanted a number in 0..1"),
        (transformers.PoolFormerImageProcessor(crop_pct=-1.0), r"has crop_pct -1\.0"),
        (Brighter(), "makes other colours than its settings say: by 12.8 of 255"),
        (Shifted(), "cuts or resizes otherwise than its settings say"),
    ],
)
def test_what_cannot_be_expressed_is_refused(processor, message):
    with pytest.raises(TeacherError, match=f"^it: its image processor {message}.*--teacher python:MODULE:FUNCTION$"):
        read_preprocessing(processor, "it")
