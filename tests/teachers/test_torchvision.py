"""Teachers of torchvision: their logits are torchvision's own, and their classes ImageNet's by WordNet id."""

import pytest
import timm
import torch
import torchvision

from pld.classes.imagenet import recognise_imagenet
from pld.classes.names import imagenet_names
from pld.errors import TeacherError
from pld.teachers import build_teacher, torchvision_models, weights_digest
from tests.teachers.making import photo

CLASSIFIERS = torchvision.models.list_models(module=torchvision.models)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torch.hub's folder, and no network."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    return tmp_path / "hub" / "checkpoints"


def publish(hub, weights):
    """Random weights where torch.hub looks for published ones."""
    torch.manual_seed(0)
    model = torchvision.models.squeezenet1_1(num_classes=1000).eval()
    hub.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), hub / weights.url.rpartition("/")[2])
    return model


@pytest.mark.parametrize("name", ["torchvision:squeezenet1_1", "torchvision:squeezenet1_1.IMAGENET1K_V1"])
def test_published_weights(hub, name):
    weights = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    model = publish(hub, weights)
    teacher = build_teacher(name)
    assert (teacher.architecture, teacher.tag) == ("torchvision:squeezenet1_1", "IMAGENET1K_V1")
    assert teacher.weights_sha256 == weights_digest(model)
    assert (teacher.class_names, teacher.names_inferred) == (imagenet_names("imagenet-1k"), False)
    image, transforms = photo(224), weights.transforms()
    assert teacher.preprocessing.crop_fraction == 224 / 256
    transforms.resize_size = [224]  # the pixels are a view's already
    with torch.no_grad():
        theirs = model(transforms(image)[None])
    assert torch.allclose(teacher.logits(image[None]), theirs, rtol=1e-4, atol=1e-5)
    assert not teacher.model.training


def test_without_a_network_it_says_what_goes_where(hub):
    with pytest.raises(TeacherError) as raised:
        build_teacher("torchvision:squeezenet1_1")
    url = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url
    assert str(raised.value) == (
        "torchvision:squeezenet1_1: its weights could not be loaded: no network\n"
        f"Without a network, download {url} elsewhere and put it into {hub}"
    )
    publish(hub, torchvision.models.SqueezeNet1_1_Weights.DEFAULT)
    assert build_teacher("torchvision:squeezenet1_1").num_classes == 1000


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("squeezenet1_1", {}),
        ("mobilenet_v3_small", {}),
        ("regnet_y_400mf", {}),
        # As torchvision builds these for published weights: they normalise their input in another way.
        ("googlenet", {"init_weights": False, "transform_input": True}),
        ("inception_v3", {"init_weights": False, "transform_input": True}),
    ],
)
def test_weights_from_a_file(tmp_path, name, settings):
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, num_classes=7, **settings)
    torch.save({"model": {f"module.{key}": value for key, value in model.state_dict().items()}}, tmp_path / "w.pth")
    tag = torchvision.models.get_model_weights(name).DEFAULT.name
    for named, held in ((name, ""), (f"{name}.{tag}", tag)):
        teacher = build_teacher(f"torchvision:{named}", str(tmp_path / "w.pth"))
        assert (teacher.architecture, teacher.tag, teacher.num_classes) == (f"torchvision:{name}", held, 7)
        assert teacher.weights_sha256 == weights_digest(model)
    image = photo(teacher.preprocessing.input_size[0])[None]
    with torch.no_grad():
        assert torch.equal(teacher.logits(image), model.eval()(teacher.preprocessing.normalize(image)))


@pytest.mark.parametrize(("tag", "side"), [("IMAGENET1K_V1", 224), ("IMAGENET1K_SWAG_E2E_V1", 384)])
def test_a_file_is_of_the_size_of_the_named_weights(monkeypatch, tag, side):
    """The model is built without values, as its 86 million are slow."""

    def build_empty(build, *_):
        with torch.device("meta"):
            return build(7), 7, None

    monkeypatch.setattr(torchvision_models, "load_from_file", build_empty)
    monkeypatch.setattr(torchvision_models, "weights_digest", lambda model: "")
    teacher = torchvision_models.load(f"torchvision:vit_b_16.{tag}", "w.pth")
    assert teacher.preprocessing.input_size == (side, side)
    assert teacher.model.encoder.pos_embedding.shape[1] == 1 + (side // 16) ** 2


def test_all_of_its_classifiers_are_of_imagenet():
    published = [weights for name in CLASSIFIERS for weights in torchvision.models.get_model_weights(name)]
    lists = {tuple(weights.meta["categories"]) for weights in published if weights.meta.get("categories")}
    assert len(published) > 100
    assert {recognise_imagenet(categories) for categories in lists} == {imagenet_names("imagenet-1k")}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet5", "torchvision has no such model; nearest are resnet50"),
        ("resnet50.V3", "has no weights of classes 'V3'; it has IMAGENET1K_V1, IMAGENET1K_V2$"),
        ("vgg16.IMAGENET1K_FEATURES", "has no weights of classes 'IMAGENET1K_FEATURES'; it has IMAGENET1K_V1$"),
        ("fasterrcnn_resnet50_fpn", "a model for object detection; a teacher is an image classifier"),
        ("deeplabv3_resnet50", "a model for segmentation"),
        ("r3d_18", "a model for video"),
        ("raft_small", "a model for optical flow"),
        ("quantized_resnet50", "a model for quantized inference on CPUs"),
        ("", "torchvision has no such model; nearest are none"),
    ],
)
def test_what_is_no_teacher(name, message):
    with pytest.raises(TeacherError, match=f"^torchvision:[a-z0-9_]*: {message}"):
        build_teacher(f"torchvision:{name}")


def test_only_imagenets_classes_in_their_order_are_recognised():
    labels = timm.data.ImageNetInfo("imagenet-1k").label_descriptions()
    ids = imagenet_names("imagenet-1k")
    short = [label.partition(",")[0].upper() for label in labels]
    assert recognise_imagenet(labels) == recognise_imagenet(short) == recognise_imagenet(ids) == ids
    assert recognise_imagenet(["?"] * 10 + labels[10:]) == ids
    swapped, doubled = [*labels[:3], labels[4], labels[3], *labels[5:]], [*labels[:4], labels[3], *labels[5:]]
    for other in (
        swapped,
        doubled,
        sorted(labels),
        labels[1:] + labels[:1],
        labels[:100],
        ["?"] * 11 + labels[11:],
        labels * 2,
    ):
        assert recognise_imagenet(other) is None
