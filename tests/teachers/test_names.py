"""What a name of a teacher says, and what is said of one that is none."""

import json

import pytest

from cache_teacher.config import CacheConfig
from pld.errors import TeacherError
from pld.teachers import build_teacher, check_model_name, short_name, stated_identity


@pytest.mark.parametrize(
    ("name", "stated", "short"),
    [
        ("resnet50", ("resnet50", ""), "resnet50"),
        ("resnet50.a1_in1k", ("resnet50", "a1_in1k"), "resnet50.a1_in1k"),
        ("vit_large", ("vit_large_patch16_224", "augreg_in21k_ft_in1k"), "vit_large"),
        ("local-dir:runs/a.b/model/", None, "model"),
        ("hf-hub:timm/resnet50.a1_in1k", None, "resnet50.a1_in1k"),
        ("torchvision:resnet50", ("torchvision:resnet50", ""), "torchvision:resnet50"),
        (
            "torchvision:resnet50.IMAGENET1K_V2",
            ("torchvision:resnet50", "IMAGENET1K_V2"),
            "torchvision:resnet50.IMAGENET1K_V2",
        ),
        ("transformers:google/vit-base", None, "transformers:vit-base"),
        ("python:mine.models:big", ("python:mine.models:big", ""), "python:mine.models:big"),
    ],
)
def test_what_a_name_says(name, stated, short):
    assert stated_identity(name) == stated
    assert short_name(name) == short


def test_stores_of_one_name_from_two_libraries_are_two():
    names = ("resnet50", "torchvision:resnet50", "transformers:me/resnet50", "python:resnet50:build")
    paths = [CacheConfig(teacher=name, data="imagenet").store_path for name in names]
    assert paths[:2] == ["stores/imagenet-resnet50-train", "stores/imagenet-torchvision_resnet50-train"]
    assert len(set(paths)) == len(names)


@pytest.mark.parametrize("name", ["torchvision:resnet50", "transformers:google/vit", "python:a:b"])
def test_a_student_is_a_timm_model(name):
    with pytest.raises(TeacherError, match=f"^{name}: only a teacher can be named so; a student is a timm model"):
        check_model_name(name)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architecture": "resnet18"}, "for this folder write local-dir:FOLDER$"),
        ({"model_type": "vit"}, "for this folder write transformers:FOLDER$"),
        (None, "it is a folder without a model's config.json$"),
        ([], "found a JSON list, wanted an object"),
    ],
)
def test_a_folder_without_its_prefix(tmp_path, config, message):
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(TeacherError, match=message.replace("FOLDER", str(tmp_path))):
        build_teacher(str(tmp_path))


def test_folders_of_the_other_library(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit", "architectures": ["ViTForImageClassification"]}')
    with pytest.raises(
        TeacherError, match=f"of transformers, not timm's; to use it as a teacher: --teacher transformers:{tmp_path}$"
    ):
        build_teacher(f"local-dir:{tmp_path}")
    (tmp_path / "config.json").write_text('{"architecture": "resnet18", "pretrained_cfg": {}}')
    with pytest.raises(TeacherError, match=f"of timm, not of transformers; name it local-dir:{tmp_path}$"):
        build_teacher(f"transformers:{tmp_path}")


def test_a_file_without_its_architecture(tmp_path):
    (tmp_path / "a.pth").touch()
    with pytest.raises(TeacherError, match=f"--teacher ARCHITECTURE --weights {tmp_path}/a.pth$"):
        build_teacher(str(tmp_path / "a.pth"))
