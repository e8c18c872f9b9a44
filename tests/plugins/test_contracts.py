"""What is registered keeps its contract, or the error names it, what was found and what was wanted."""

import dataclasses
import io
import re
from typing import Annotated, ClassVar

import numpy as np
import pytest
from PIL import Image

from pld.errors import ConfigError, DataError, PluginError, TeacherError
from pld.images import ImageShard, Source, open_source, register_source
from pld.losses import register_loss
from pld.losses.settings import POSITIVE, Reduction
from pld.randomness import raw_bits
from pld.teachers import build_teacher, register_teacher
from pld.views import Op, RandomResizedCrop, parse_policy, policy_from_json, policy_to_json, register_policy_step
from pld.views.policy import STEPS


def no_weight(student_logits, labels, *, reduction: Reduction = "mean"): ...
def no_default(student_logits, labels, weight=None, *, margin: float, reduction: Reduction = "mean"): ...
def no_reduction(student_logits, labels, weight=None): ...
def other_type(student_logits, labels, weight=None, *, alpha: bool = True, reduction: Reduction = "mean"): ...
def options_name(student_logits, labels, weight=None, *, name: float = 1.0, reduction: Reduction = "mean"): ...
def eager_weight(student_logits, labels, weight, *, reduction: Reduction = "mean"): ...


LOSSES = {
    no_weight: r"takes \(student_logits, labels\), wanted \(student_logits, teacher, labels, weight\)",
    no_default: "the setting margin has no default",
    no_reduction: "has no setting reduction",
    other_type: "the setting alpha is of type <class 'bool'>, and other losses' of that name of type <class 'float'>",
    options_name: "a setting cannot be called name",
    eager_weight: "weight has no default",
}


@pytest.mark.parametrize("function", LOSSES, ids=lambda function: function.__name__)
def test_losses(path, function):
    with pytest.raises(PluginError, match=rf"loss {__name__}.{function.__name__}: {LOSSES[function]}"):
        register_loss("new")(function)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shift:
    """A sound step, which the others are changed from."""

    name: ClassVar[str] = "shift"
    by: float = 0.1
    bold: bool = False

    def draw(self, identity):
        return (Op("translate_x", (self.by * (raw_bits(identity, 0, 1)[0] % 3),)),)


def shaky(pixels):
    return np.random.default_rng().integers(0, 256, pixels.shape, dtype=np.uint8)


def inplace(pixels):
    pixels += 1
    return pixels


def floats(pixels):
    return pixels / 2


def smaller(pixels):
    return pixels[1:]


def draws(name, draw=None, **fields):
    """A step of this module, with another name, draw or parameters."""
    made = dataclasses.make_dataclass("Made", fields.get("parameters", []), frozen=fields.get("frozen", True))
    made.name, made.__module__, made.__qualname__ = name, __name__, fields.get("qualname", "Made")
    if draw:
        made.draw = lambda self, identity: draw(identity)
    return made


STATE = iter(range(10**6))
STEPS_WRONG = {
    "not frozen": (draws("made", lambda i: (), frozen=False), {}, "is not a frozen dataclass"),
    "no name": (draws(None, lambda i: ()), {}, "has no class attribute `name`"),
    "no draw": (draws("made"), {}, "cannot be drawn"),
    "local": (draws("made", lambda i: (), qualname="f.<locals>.Made"), {}, "is defined in a function"),
    "not JSON": (
        draws("made", lambda i: (), parameters=[("x", object, None)]),
        {},
        "its parameter x has the default None",
    ),
    "nan": (
        draws("made", lambda i: (), parameters=[("x", float, float("nan"))]),
        {},
        "the default nan; wanted a finite",
    ),
    "taken": (draws("mixup", lambda i: ()), {}, "'mixup' is a word that --policy has already"),
    "taken in JSON": (draws("rand_augment", lambda i: ()), {}, "a name that is taken by pld-distill"),
    "fails": (draws("made", lambda i: 1 / 0), {}, "draw fails: ZeroDivisionError"),
    "no ops": (draws("made", lambda i: [Op("invert")]), {}, "draw returns .*wanted a tuple of pld.views.Op"),
    "not pure": (
        draws("made", lambda i: (Op("rotate", (float(next(STATE)),)),)),
        {},
        "for one identity; draw from pld.ran",
    ),
    "unknown op": (draws("made", lambda i: (Op("swirl"),)), {}, "draws the operation 'swirl', which is not known"),
    "not numbers": (draws("made", lambda i: (Op("rotate", (float("inf"),)),)), {}, "wanted finite Python numbers"),
    "random pixels": (draws("made", lambda i: (Op("shaky"),)), {"shaky": shaky}, "give other pixels each time"),
    "in place": (
        draws("made", lambda i: (Op("inplace"),)),
        {"inplace": inplace},
        "change the array that they are given",
    ),
    "floats": (draws("made", lambda i: (Op("floats"),)), {"floats": floats}, r"make float64 \[16, 24, 3\] of pixels"),
    "smaller": (draws("made", lambda i: (Op("smaller"),)), {"smaller": smaller}, r"make uint8 \[15, 24, 3\] of pixels"),
    "taken op": (draws("made", lambda i: ()), {"rotate": floats}, "registers the operation on pixels 'rotate'"),
}


@pytest.mark.parametrize("case", STEPS_WRONG)
def test_steps(path, case):
    kind, operations, said = STEPS_WRONG[case]
    with pytest.raises(PluginError, match=f"(?s){said}"):
        register_policy_step(operations=operations)(kind)
    assert "made" not in STEPS.data


def test_a_step_is_typed_and_kept_as_json(path):
    register_policy_step()(Shift)
    policy = parse_policy("rrc,flip,shift-0.25", RandomResizedCrop())
    assert policy.steps == (Shift(by=0.25),)
    described = policy_to_json(policy)
    assert described["steps"] == [{"name": "shift", "by": 0.25, "bold": False}]
    assert policy_from_json(described) == policy
    for wrong in ("shift-x", "shift-0.1-2"):
        with pytest.raises(ConfigError, match=f"found '{wrong}'; wanted shift or shift-BY"):
            parse_policy(wrong, RandomResizedCrop())
    with pytest.raises(ConfigError, match=r"unknown step 'swirl'(?s:.*)shift-BY"):
        parse_policy("swirl", RandomResizedCrop())
    del STEPS["shift"]
    with pytest.raises(ConfigError, match="if 'shift' is a plug-in's, install the package that has it"):
        policy_from_json(described)


def png() -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (40, 30)).save(encoded, "PNG")
    return encoded.getvalue()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class InMemory(Source):
    """Images that are not in files."""

    def read(self, row):
        return png()

    def num_bytes(self, row):
        return len(png())


def a_source(kind=InMemory, **changes):
    fields = {
        "location": "here",
        "shards": (ImageShard("train", 3),),
        "keys": np.array([b"a", b"b", b"c"]),
        "labels": np.array([0, 1, 0]),
        "files": ("memory",),
        "file_index": np.zeros(3, np.int64),
        "offsets": np.arange(3),
        "sizes": np.full(3, -1),
        "class_names": ("cold", "warm"),
    }
    return kind(**{**fields, **changes})


class Broken(InMemory):
    def read(self, row):
        raise KeyError("gone")


class Cut(InMemory):
    def num_bytes(self, row):
        return 3


SOURCES = {
    "no Source": (lambda: 3, "the reader returns a int, wanted a pld.images.Source"),
    "fails": (lambda: 1 / 0, "the reader fails: ZeroDivisionError: division by zero"),
    "twice": (lambda: a_source(keys=np.array([b"a", b"b", b"a"])), "keys: 'a' comes twice"),
    "text": (lambda: a_source(keys=np.array(["a", "b", "c"])), "keys: wanted a NumPy array of UTF-8 bytes"),
    "lengths": (
        lambda: a_source(labels=np.array([0, 1])),
        r"labels: found int64 of shape \[2\], wanted int64 of shape \[3\]",
    ),
    "types": (lambda: a_source(labels=np.array([0, 1, 0], np.int32)), "labels: found int32"),
    "shards": (lambda: a_source(shards=(ImageShard("train", 2),)), "shards: hold 2 samples, and there are 3 keys"),
    "labels": (lambda: a_source(labels=np.array([0, 1, 2])), r"labels: found 0..2, wanted 0..1"),
    "names": (lambda: a_source(class_names=("cold", "cold")), "class_names: class 1 is 'cold'"),
    "files": (lambda: a_source(file_index=np.array([0, 1, 0])), r"file_index: wanted 0..0"),
    "offsets": (lambda: a_source(offsets=np.array([0, -1, 0])), "offsets and sizes: wanted 0 or more"),
    "read": (lambda: a_source(Broken), "its first image, a, cannot be read: KeyError: 'gone'"),
    "size": (lambda: a_source(Cut), r"read\(0\) returns \d+ bytes, and num_bytes\(0\) is 3"),
}


@pytest.mark.parametrize("case", SOURCES)
def test_sources(path, case):
    make, said = SOURCES[case]

    @register_source("memory")
    def reader(place, split):
        return make()

    with pytest.raises(PluginError, match=rf"memory:x \({re.escape(reader.__module__)}.*reader\): .*{said}"):
        open_source("memory:x")


def test_a_source_takes_the_callers_names_and_no_labels(path):
    @register_source("memory")
    def reader(place, split):
        return a_source(class_names=None) if place == "nameless" else a_source()

    assert open_source("memory:x").class_names == ("cold", "warm")
    assert open_source("memory:x").location == "memory:x"
    assert open_source("memory:nameless", class_names=("a", "b")).class_names == ("a", "b")
    unlabelled = open_source("memory:x", unlabelled=True)
    assert (unlabelled.labels, unlabelled.class_names) == (None, None)
    with pytest.raises(DataError, match="number the 2 classes of memory:x"):
        open_source("memory:x", class_names=("a", "b"))
    with pytest.raises(ConfigError, match="leave --labels out"):
        open_source("memory:x", labels="labels.csv")
    with pytest.raises(DataError, match=r"no such file.*NAME:PLACE of a plug-in, of which here are memory"):
        open_source("memoryy:x")


def test_teachers(path):
    @register_teacher("odd")
    def odd(model):
        if model == "broken":
            raise OSError("no weights")
        return 3

    with pytest.raises(
        TeacherError, match=r"odd:x \(.*odd\): the function returns a value of type int; wanted \(module"
    ):
        build_teacher("odd:x")
    with pytest.raises(TeacherError, match=r"odd:broken \(.*OSError: no weights \(.*test_contracts.py"):
        build_teacher("odd:broken")
    with pytest.raises(TeacherError, match="leave --weights out"):
        build_teacher("odd:x", "weights.pth")
    with pytest.raises(TeacherError, match="begin with torchvision: or transformers: or python: or odd:"):
        build_teacher("even:x")
    with pytest.raises(PluginError, match="kind of teacher 'python', a name that is taken by pld-distill"):
        register_teacher("python")(odd)


def test_a_setting_with_a_help_text_becomes_an_option(path):
    from pld.losses import loss_settings

    @register_loss("wide")
    def wide(
        student_logits,
        labels,
        weight=None,
        *,
        width: Annotated[float, POSITIVE, "of {losses}"] = 1.0,
        reduction: Reduction = "mean",
    ): ...

    (width,) = (setting for setting in loss_settings() if setting.name == "width")
    assert width.is_of_plugins
    assert not any(setting.is_of_plugins for setting in loss_settings() if setting.name != "width")
