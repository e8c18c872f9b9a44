"""Plug-ins are loaded once, when a name is looked up; what one gets wrong is said with its name."""

import dataclasses
import sys
from typing import ClassVar

import pytest

from pld.errors import ConfigError, PLDError
from pld.images import open_source
from pld.losses import build_loss, loss_names, register_loss
from pld.losses.registry import LOSSES
from pld.options import unknown_option
from pld.plugins import OURS, Registry, load_plugins, loaded_plugins
from pld.teachers import build_teacher, short_name
from pld.teachers.names import kind_of
from pld.views import Op, RandomResizedCrop, parse_policy, policy_from_json, register_policy_step
from pld.views.steps.ops import OPERATIONS
from tests.making import jpeg, write_tar
from tests.plugins.installing import install
from tests.processes import python
from train_student.config import TrainConfig

LOSS = """
from pld.losses import register_loss

def half(student_logits, labels, weight=None, *, reduction: Reduction = "mean"):
    return student_logits.sum()

def register():
    register_loss("{name}")(half)
"""
LOSS = LOSS.replace("from pld.losses import", "from pld.losses.settings import Reduction\nfrom pld.losses import")


def test_a_name_that_is_there_loads_none(example):
    build_loss("pld")
    parse_policy("deit", RandomResizedCrop())
    assert "pld_example" not in sys.modules
    assert "hinge" in loss_names()
    assert "pld_example.hinge" in sys.modules


@pytest.mark.long
def test_importing_pld_loads_no_plugin(tmp_path):
    """Neither the package nor its rooms, and not a lookup of what is there; a listing does."""
    install(tmp_path, {"loud": "loud"}, {"loud": "print('loaded')"})
    program = """
import pld, pld.losses, pld.views
pld.losses.build_loss("pld"), pld.views.parse_policy("deit", pld.views.RandomResizedCrop())
print("imported")
pld.losses.loss_names()
"""
    (tmp_path / "program.py").write_text(program)
    done = python("program.py", cwd=tmp_path, env={"PYTHONPATH": f"{tmp_path}:{sys.path[0]}"}, check=False)
    assert done.stdout.split() == ["imported", "loaded"], done.stderr


def test_each_kind_of_the_example_is_found(example):
    assert "pld_example" not in sys.modules
    assert build_loss("hinge", margin=0.5).required_signal.temperatures == (1.0,)
    assert len(open_source("colours:5")) == 5
    assert [step.largest for step in parse_policy("mosaic-8", RandomResizedCrop()).steps] == [8]
    assert build_teacher("mean_colour:3").architecture == "mean_colour:3"
    assert loaded_plugins() == dict.fromkeys(("colours", "hinge", "mean_colour", "mosaic"), "pld-example 1.0")


def test_they_are_loaded_once(path):
    text = "import pathlib\nwith pathlib.Path(__file__).with_suffix('.txt').open('a') as f: f.write('x')\n"
    install(path, {"one": "one:register"}, {"one": text + LOSS.format(name="half")})
    for _ in range(2):
        load_plugins()
        assert "half" in loss_names()
    assert (path / "one.txt").read_text() == "x"
    assert LOSSES.owner("half") == "plug-in 'one' of some-plugin 1.0 (pld.plugins: one:register)"
    assert LOSSES.owner("pld") == OURS


@dataclasses.dataclass(frozen=True)
class Strange:
    """Draws an operation that is not known."""

    name: ClassVar[str] = "strange"

    def draw(self, identity):
        return (Op("other"),)


@pytest.fixture
def bad(path):
    """A plug-in that fails."""
    install(path, {"bad": "bad"}, {"bad": "1 / 0"})


FAULTS = {
    "import fails": ("bad", "import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_"),
    "code fails": ("bad", "1 / 0", r"ZeroDivisionError: division by zero \(.*bad.py, line 1\)"),
    "exits": ("bad", "raise SystemExit(3)", r"SystemExit: 3"),
    "no such function": ("bad:register", "", "AttributeError: module 'bad' has no attribute 'register'"),
    "not a function": ("bad:number", "number = 3", "found an object of type int, wanted a module"),
    "wants arguments": ("bad:go", "def go(x): ...", r"TypeError: go\(\) missing 1 required"),
    "registers nothing": ("bad", "x = 1", "registers nothing; wanted one of register_loss"),
    "taken": (
        "bad:register",
        LOSS.format(name="pld"),
        "bad.half: registers the loss 'pld', a name that is taken by pld-",
    ),
    "not a word": ("bad:register", LOSS.format(name="My loss"), "registers the loss 'My loss'; wanted a word of small"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_plugin_got_wrong(path, fault):
    """It is said where a name is not known; who asks for what is known is not disturbed."""
    value, text, said = FAULTS[fault]
    install(path, {"bad": value, "good": "good:register"}, {"bad": text, "good": LOSS.format(name="half")})
    assert {"pld", "half"} <= set(loss_names())
    assert build_loss("half").name == "half"
    with pytest.raises(ConfigError, match=rf"(?s)loss 'other': known are .*plug-in 'bad' of some-plugin 1.0.*{said}"):
        build_loss("other")
    assert "plug-in 'bad'" in unknown_option(TrainConfig, "margin")


UNKNOWN = {
    "loss": lambda: build_loss("other"),
    "loss looked up": lambda: LOSSES["other"],
    "step": lambda: parse_policy("other-3", RandomResizedCrop()),
    "step of a store": lambda: policy_from_json({"name": "random_resized_crop", "steps": [{"name": "other"}]}),
    "operation": lambda: register_policy_step()(Strange),
    "source": lambda: open_source("other:5"),
    "teacher": lambda: build_teacher("other:5"),
    "operation looked up": lambda: OPERATIONS["other"],
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_who_reports_an_unknown_name_tells_of_a_plugin_that_failed(bad, what):
    with pytest.raises(PLDError, match=r"(?s)other.*\n  plug-in 'bad' of some-plugin 1.0.*ZeroDivisionError"):
        UNKNOWN[what]()


def test_what_is_no_name_of_a_plugin_works_though_one_failed(bad, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert kind_of("hf_hub:timm/resnet18") is None
    assert short_name("hf_hub:timm/resnet18") == "resnet18"
    assert "other" not in LOSSES
    assert LOSSES.get("other") is None
    write_tar(tmp_path / "a:b-0.tar", {"s.jpg": jpeg(0), "s.cls": b"1"})
    write_tar(tmp_path / "a:b-1.tar", {"t.jpg": jpeg(1), "t.cls": b"0"})
    assert len(open_source("a:b-{0..1}.tar")) == 2
    with pytest.raises(ConfigError, match="unknown step") as told:
        parse_policy("eraze-0.25", RandomResizedCrop())
    assert "is erase meant?" in str(told.value)
    assert Registry("thing").get("a", 3) == 3


def test_counting_the_names_loads_the_plugins(example):
    assert len(LOSSES) == len(list(LOSSES))
    assert "hinge" in LOSSES.data


def test_a_plugin_that_fails_takes_back_what_it_registered(path):
    install(path, {"half": "half:register"}, {"half": LOSS.format(name="half") + "    1 / 0\n"})
    assert "half" not in loss_names()
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        build_loss("half")


def test_without_faults_unknown_names_are_what_they_were(path):
    with pytest.raises(ConfigError, match="did you mean pld"):
        build_loss("pldd")


def test_two_plugins_cannot_have_one_name(path):
    """The first in the order of their names has it."""
    install(path, {"b": "b:register"}, {"b": LOSS.format(name="half")}, "second")
    install(path, {"a": "a:register"}, {"a": LOSS.format(name="half")}, "first")
    assert build_loss("half")
    with pytest.raises(ConfigError, match=r"plug-in 'b' of second 1\.0.*taken by plug-in 'a' of first 1\.0"):
        build_loss("other")


def test_a_module_may_be_imported_by_hand(path):
    """Before it is found as a plug-in, which is no fault, and twice, as a notebook's cell."""
    install(path, {"one": "one"}, {"one": LOSS.format(name="half") + "register()"})
    import one

    one.register()
    assert build_loss("half")
    assert LOSSES.owner("half") == "one.half"
    with pytest.raises(ConfigError, match="did you mean half"):
        build_loss("halff")


def test_a_plugin_may_look_up_names_while_it_is_loaded(path):
    text = LOSS.format(name="half") + "from pld.losses import loss_names\nassert 'pld' in loss_names()\n"
    install(path, {"one": "one:register"}, {"one": text})
    assert build_loss("half")


def test_names_of_a_registry_can_be_removed():
    registry = Registry("thing")
    registry.register("a", 1, test_names_of_a_registry_can_be_removed)
    del registry["a"]
    registry.register("a", 2, install)
    assert registry["a"] == 2
    with pytest.raises(KeyError):
        registry["b"]
    del registry["a"]


def test_the_door_is_the_decorator_of_the_built_in_losses():
    from pld.losses.registry import loss

    assert register_loss is loss
