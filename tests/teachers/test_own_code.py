"""Teachers of one's own code: what a function may return, and what is said of one that returns anything else."""

import itertools
import sys

import pytest
import timm
import torch

from pld.classes.names import imagenet_names
from pld.errors import TeacherError
from pld.teachers import build_teacher, weights_digest
from tests.teachers.making import photo

SIDE = 16
NET = """
import torch
from pld.views.preprocessing import Preprocessing

class Net(torch.nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        torch.manual_seed(0)
        self.head = torch.nn.Linear(3, classes)

    def forward(self, images):
        return self.head(images.mean((2, 3)))

SIZE = {"input_size": (16, 16)}
"""
_numbers = itertools.count()


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module of a new name into the current directory, and give its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write_module(code, name=None):
        name = name or f"own_teacher_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(NET + code)
        return name

    return write_module


def built(write, body, more=""):
    name = write(f"{more}\ndef build():\n    {body}\n")
    return build_teacher(f"python:{name}:build")


@pytest.mark.parametrize(
    "preprocessing",
    [
        "Preprocessing(input_size=(16, 16), interpolation='bilinear', mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))",
        "{'input_size': [16, 16], 'interpolation': 'bilinear', 'mean': [0.1, 0.2, 0.3], 'std': [0.4, 0.5, 0.6]}",
    ],
)
def test_its_logits_are_the_modules(write, preprocessing):
    name = write(f"def build():\n    return Net().train(), {preprocessing}, ['ant', 'bee', 'cat']\n")
    teacher = build_teacher(f"python:{name}:build")
    assert (teacher.architecture, teacher.tag, teacher.num_classes) == (f"python:{name}:build", "", 3)
    assert (teacher.class_names, teacher.names_inferred) == (("ant", "bee", "cat"), False)
    model = sys.modules[name].Net()
    assert teacher.weights_sha256 == weights_digest(model)
    assert not teacher.model.training
    image = photo(SIDE)[None]
    mean, std = torch.tensor([0.1, 0.2, 0.3])[:, None, None], torch.tensor([0.4, 0.5, 0.6])[:, None, None]
    assert torch.allclose(teacher.logits(image), model((image / 255 - mean) / std), atol=1e-5)


def test_names_are_not_known_unless_it_says_them(write):
    teacher = built(write, "return Net(), SIZE")
    assert (teacher.class_names, teacher.names_inferred) == (None, True)
    assert built(write, "return Net(1000), SIZE, None").class_names == imagenet_names("imagenet-1k")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "return Net()",
            r"returns a value of type Net; wanted \(module, preprocessing\) or \(module, preprocessing, class_names\)",
        ),
        ("return Net(), SIZE, None, 1", "returns 4 values; wanted"),
        ("return 'net', SIZE", "its first value is of type str, wanted a torch.nn.Module"),
        ("return Net(), 16", "its second value is of type int, wanted pld.views.preprocessing.Preprocessing or a dict"),
        ("return Net(), {**SIZE, 'crop': 1}", "its preprocessing has crop; wanted some of input_size, interpolation"),
        ("return Net(), {'input_size': 16}", r"input_size is '16', wanted \(height, width\), integers"),
        ("return Net(), {'input_size': (0, 16)}", r"input_size is '\(0, 16\)', wanted"),
        ("return Net(), {'interpolation': 'nearest'}", "interpolation is 'nearest', wanted bilinear or bicubic"),
        ("return Net(), {'mean': 0.5}", "mean is '0.5', wanted three numbers"),
        ("return Net(), {'mean': (0, 0, float('nan'))}", "mean is .*, wanted three numbers"),
        ("return Net(), {'std': (1, 0, 1)}", "std is .*, wanted three positive numbers"),
        (
            "return Net(), Preprocessing(crop_fraction=1.5)",
            "crop_fraction is '1.5', wanted a number above 0, at most 1",
        ),
        ("return Net(), SIZE, 'abc'", "its class_names are of type str, wanted a list of text"),
        ("return Net(), SIZE, [1, 2, 3]", "its class_names are of type list, wanted a list of text"),
        ("return Net(), SIZE, ['a', 'b']", "has 2 class_names for 3 logits; wanted one for each"),
        ("return Net(), SIZE, ['a', 'b', 'b']", "its class_names have 'b' twice or empty"),
        (
            "return torch.nn.Conv2d(1, 1, 1), SIZE",
            r"its forward pass on float32 images \[2, 3, 16, 16\] fails: Runtime",
        ),
        ("return torch.nn.Identity(), SIZE", r"gives float32 \[2, 3, 16, 16\], wanted floating-point logits \[2, C\]"),
        ("return Pair(), SIZE", "its forward pass gives a tuple, no tensor; return a module whose forward pass"),
        ("return Sure(), SIZE", "are not negative and sum to 1: probabilities, wanted logits; leave the softmax out"),
        ("return Chosen(), SIZE", r"gives int64 \[2\], wanted floating-point logits"),
        (
            "raise ValueError('first line' + chr(10) + 'no such disk')",
            r"the function fails: ValueError: no such disk \(",
        ),
        ("return torch.load('nowhere.pth'), SIZE", r"FileNotFoundError: .*nowhere.pth.*own_teacher_\d+.py, line \d+\)"),
        ("return Net().to('meta'), SIZE", "its tensors cannot be read: Cannot copy out of meta"),
        ("return Dropped(), SIZE", r"gives other logits when it runs on the same images again: .*F\.dropout"),
        ("return Mixed(), SIZE", "gives an image other logits alone than beside another image"),
        ("return Squeezed(), SIZE", r"on 1 image gives float32 \[3\], wanted floating-point logits \[1, C\]"),
        ("return Listed(), SIZE", r"layers\.1\.0 is a module that PyTorch does not know of: .*nn\.ModuleList"),
        (
            "return torch.nn.Sequential(Listed()), SIZE",
            r"0\.layers\.1\.0 is a module that PyTorch does not know of: .*nn\.ModuleList",
        ),
        ("return Fresh(), SIZE", r"gives other logits each time it is built; load its weights in the"),
        ("return Hidden(), SIZE", r"gives other logits each time it is built; load its weights in the function, or"),
        ("raise SystemExit('usage: me')", "the function fails: SystemExit: usage: me"),
    ],
)
def test_what_a_function_must_not_do(write, body, message):
    others = """
class Pair(Net):
    def forward(self, images):
        return super().forward(images), images
class Sure(Net):
    def forward(self, images):
        return super().forward(images).softmax(1)
class Dropped(Net):
    def forward(self, images):
        return torch.nn.functional.dropout(super().forward(images))
class Mixed(Net):
    def forward(self, images):
        return super().forward(images - images.mean(0))
class Squeezed(Net):
    def forward(self, images):
        return super().forward(images).squeeze()
class Listed(Net):
    def __init__(self):
        super().__init__()
        self.layers = ["head", [torch.nn.Linear(3, 3)]]
class Fresh(Net):
    def __init__(self):
        super().__init__()
        torch.seed()
        torch.nn.init.normal_(self.head.weight)
class Hidden(torch.nn.Module):
    def __init__(self):
        super().__init__()
        layer = torch.nn.Linear(3, 3)
        self.run = lambda images: layer(images.mean((2, 3)))
    def forward(self, images):
        return self.run(images)
class Chosen(Net):
    def forward(self, images):
        return super().forward(images).argmax(1)
"""
    with pytest.raises(TeacherError, match=rf"^python:own_teacher_\d+:build: .*{message}"):
        built(write, body, others)


@pytest.mark.parametrize(
    "held",
    ["self.register_buffer('scale', torch.tensor({}), persistent=False)", "self.scale = torch.tensor({})"],
)
def test_tensors_that_are_not_saved_are_part_of_its_identity(write, held):
    code = "class Scaled(Net):\n    def __init__(self):\n        super().__init__()\n        {}\n"
    code += "    def forward(self, images):\n        return self.scale * super().forward(images)\n"
    first, same, other = (
        built(write, "return Scaled(), SIZE", code.format(held.format(scale))).weights_sha256 for scale in (2, 2, 3)
    )
    assert first == same != other


def test_a_list_of_modules_that_it_has_is_fine(write):
    code = "class Listed(Net):\n    def __init__(self):\n        super().__init__()\n        self.all = [self.head]\n"
    plain, listed = built(write, "return Net(), SIZE"), built(write, "return Listed(), SIZE", code)
    assert listed.weights_sha256 == plain.weights_sha256


def test_one_model_for_all_calls_is_fine(write):
    more = "torch.seed()\nNET = Net()\ntorch.nn.init.normal_(NET.head.weight)\n"
    assert built(write, "return NET, SIZE", more).num_classes == 3


def test_log_probabilities_are_logits(write):
    more = "class Log(Net):\n    def forward(self, images):\n        return super().forward(images).log_softmax(1)\n"
    assert built(write, "return Log(), SIZE", more).num_classes == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("python:", "wanted python:MODULE:FUNCTION, such as python:my_package.teachers:big_model"),
        ("python:build", "wanted python:MODULE:FUNCTION"),
        ("python:a/b.py:build", "wanted python:MODULE:FUNCTION"),
        ("python:no_such_module:build", "no module 'no_such_module' in FOLDER, PYTHONPATH or the installed packages"),
        ("python:torch.no_such:build", "no module 'torch.no_such' in FOLDER"),
        ("python:string:nothing", "'nothing' is not in it; the functions of string are .*capwords"),
        ("python:string:digits", "'digits' is of type str, no function; the functions of string are"),
    ],
)
def test_names_that_lead_nowhere(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(TeacherError, match=f"^{name}: {message.replace('FOLDER', str(tmp_path))}"):
        build_teacher(name)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_library\n", r"fails: ModuleNotFoundError: No module named 'no_such_library' \(.*line \d+\)"),
        ("1 / 0\n", r"fails: ZeroDivisionError: division by zero \(.*own_teacher_\d+.py, line \d+\)"),
        ("def build(:\n", "fails: SyntaxError: "),
    ],
)
def test_a_module_that_fails(write, code, message):
    with pytest.raises(TeacherError, match=f"importing own_teacher_[0-9]+ {message}"):
        build_teacher(f"python:{write(code)}:build")


def test_it_loads_its_own_weights(write):
    name = write("def build():\n    return Net(), SIZE\n")
    with pytest.raises(TeacherError, match="the function loads its own weights; leave --weights out"):
        build_teacher(f"python:{name}:build", "weights.pth")


def digest(name):
    for module in [module for module in sys.modules if module.startswith("own_teacher_")]:
        del sys.modules[module]
    return build_teacher(f"python:{name}:build").code_sha256


def test_the_digest_is_of_the_code_that_defines_it(write, tmp_path, monkeypatch):
    base = write("")
    parts = write(f"import {base}\nclass Part({base}.Net):\n    pass\n")
    other = write("x = 1\n")
    whole = write(f"import {parts}, {other}\ndef build():\n    return torch.nn.Sequential({parts}.Part()), SIZE\n")
    first = digest(whole)
    assert digest(whole) == first
    for module, covered in ((base, True), (parts, True), (whole, True), (other, False)):
        path = tmp_path / f"{module}.py"
        text = path.read_text()
        path.write_text(text + "\n# another line\n")
        assert (digest(whole) != first) == covered, module
        path.write_text(text)
    assert digest(whole) == first
    # Where it lies does not matter.
    (tmp_path / "elsewhere").mkdir()
    for path in tmp_path.glob("*.py"):
        path.rename(tmp_path / "elsewhere" / path.name)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert digest(whole) == first


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated")
def test_the_digest_is_of_a_torchscript_programs_code_too(write):
    """Two programs with the same tensors, loaded by the same function."""
    module = write("def build():\n    return torch.jit.load('program.pt'), SIZE\n")

    def save(scale):
        net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(scale), torch.nn.Flatten(), torch.nn.Linear(6, 3))
        for parameter in net.parameters():
            torch.nn.init.ones_(parameter)
        torch.jit.trace(net, torch.zeros(1, 3, 16, 16)).save("program.pt")

    save((1, 2))
    first = digest(module)
    assert digest(module) == first
    save((2, 1))
    assert digest(module) != first


def test_libraries_have_none(write):
    model = "timm.create_model('test_resnet', num_classes=3)"
    assert digest(write(f"import timm\ndef build():\n    torch.manual_seed(0)\n    return {model}, {{}}\n"))
    model = timm.create_model("test_resnet", num_classes=3)
    torch.save(model.state_dict(), "weights.pth")
    assert build_teacher("test_resnet", "weights.pth").code_sha256 is None
