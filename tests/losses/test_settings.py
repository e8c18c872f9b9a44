"""A loss is described once: names, settings, checks, help, modules and what it needs of a teacher derive from that."""

import copy
import inspect
import pickle
from typing import Annotated, Literal

import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

import pld.losses
from pld.errors import ConfigError, SignalError
from pld.losses import build_loss, loss_names, loss_settings, needs_teacher
from pld.losses.arguments import reduce_loss
from pld.losses.module import TeacherLossModule, settings_of
from pld.losses.registry import LOSSES, loss
from pld.losses.settings import POSITIVE, Reduction, Temperature
from pld.losses.teacher import as_topk
from pld.signals import MixedLabels, TopK

MODULES = {
    "CrossEntropyLoss": "cross_entropy_loss",
    "DISTLoss": "dist_loss",
    "DKDLoss": "dkd_loss",
    "EAKDLoss": "ea_kd_loss",
    "JSLoss": "js_loss",
    "KDLoss": "kd_loss",
    "ListMLELoss": "listmle_loss",
    "PLDLoss": "pld_loss",
    "PListMLELoss": "plistmle_loss",
    "RKLLoss": "rkl_loss",
    "RLDLoss": "rld_loss",
    "SoftCELoss": "soft_ce_loss",
    "WTTMLoss": "wttm_loss",
}
DEFAULT = "; the loss's own default if not given"


@pytest.fixture
def hinge():
    """A new loss: one function and its registration; the module is for people with their own loop."""

    @loss("hinge", tight={"margin": 0.1})
    def hinge_loss(
        student_logits: Float[Tensor, "B C"],
        teacher: TopK | Float[Tensor, "B C"],
        labels: Int[Tensor, "B"],
        weight: Float[Tensor, "B"] | None = None,
        *,
        margin: Annotated[float, POSITIVE, "of {losses}; the least gap to the label"] = 1.0,
        temperature: Temperature = 1.0,
        approximate: bool = False,
        reduction: Reduction = "mean",
    ) -> Float[Tensor, "*reduced"]:
        topk = as_topk(teacher, labels)
        gap = student_logits.gather(1, topk.classes) - student_logits.gather(1, labels[:, None])
        hinges = (topk.logprobs / temperature).exp() * (margin + gap).clamp(min=0)
        return reduce_loss(hinges.sum(dim=1), weight, reduction)

    class HingeLoss(TeacherLossModule):
        @settings_of(hinge_loss)
        def __init__(self) -> None: ...

    yield hinge_loss, HingeLoss
    for name in ("hinge", "tight"):
        del LOSSES[name]


def test_a_new_loss_is_one_function_and_its_registration(hinge):
    function, module = hinge
    student, teacher, labels = torch.randn(3, 5), torch.randn(3, 5), torch.tensor([0, 1, 2])
    topk = TopK.from_logits(teacher, labels, 2)
    wanted = function(student, topk, labels, margin=0.1)
    for same in (build_loss("tight"), build_loss("hinge", margin=0.1), module(margin=0.1)):
        assert torch.equal(same(student, topk, labels), wanted)
    assert loss_names()[-2:] == ("hinge", "tight")
    assert needs_teacher("tight")
    (margin,) = (setting for setting in loss_settings() if setting.name == "margin")
    assert (margin.type, margin.losses) == (float, ("hinge", "tight"))
    assert margin.help == f"of hinge and tight; the least gap to the label{DEFAULT}"
    assert str(module()) == "HingeLoss(margin=1.0, temperature=1.0, approximate=False, reduction='mean')"
    assert "temperature 2 much" in build_loss("hinge", temperature=2.0).required_signal.all_classes
    with pytest.raises(SignalError, match="hinge_loss: the teacher holds k = 2 of 5 classes, wanted all: at temp"):
        function(student, topk, labels, temperature=2.0)
    with pytest.raises(SignalError, match=r"labels: found 0..5, wanted 0..4"):
        function(student, labels=torch.tensor([0, 1, 5]), teacher=teacher)
    mixed = MixedLabels(labels=labels, others=labels.flip(0), share=torch.ones(3))
    for given in (topk, teacher):
        with pytest.raises(
            SignalError, match=r"hinge_loss: labels: found MixedLabels, wanted int64 \[B\]: it takes one"
        ):
            function(student, given, mixed)
    with pytest.raises(TypeError, match=r"hinge_loss\(\) missing 1 required positional argument: 'labels'"):
        function(student, teacher)
    for check in (lambda m: function(student, topk, labels, margin=m), lambda m: build_loss("hinge", margin=m)):
        with pytest.raises(ConfigError, match="hinge_loss: margin = 0, wanted a number above 0"):
            check(0)


def test_the_settings_of_recipes():
    assert {setting.name: (setting.type, setting.help.removesuffix(DEFAULT)) for setting in loss_settings()} == {
        "temperature": (float, "of the teacher in the loss"),
        "alpha": (float, "of kd, dist, rkl, js, dkd, ea_kd, rld and wttm"),
        "beta": (float, "of dist, dkd, ea_kd, rld and wttm"),
        "gamma": (float, "of dist"),
        "label_smoothing": (float, "of ls"),
        "tail": (Literal["drop", "uniform"], "drop or uniform, of pld"),
        "entropy_temperature": (float, "of the entropies that weigh a sample in ea_kd"),
        "global_batch": (bool, "of dist; correlate columns over all processes' batches"),
    }
    for setting in loss_settings():
        assert setting.losses == tuple(name for name in loss_names() if setting.name in build_loss(name).settings)


def test_losses_without_a_teacher():
    assert [name for name in loss_names() if not needs_teacher(name)] == ["ce", "ls"]
    with pytest.raises(ConfigError, match="loss 'pdl': did you mean pld"):
        needs_teacher("pdl")


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_the_settings_of_its_function(name):
    module, function = getattr(pld.losses, name), getattr(pld.losses, MODULES[name])
    wanted = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    layout = ["class_dim", "ignore_index"]
    given = list(inspect.signature(module).parameters.values())
    assert given[: len(wanted)] == wanted
    assert [(p.name, p.kind, p.default) for p in given[len(wanted) :]] == [
        (n, inspect.Parameter.KEYWORD_ONLY, None) for n in layout
    ]
    made = module(reduction="none")
    assert made.settings == {p.name: p.default for p in wanted} | {"reduction": "none"}
    assert repr(made) == f"{name}({', '.join(f'{key}={value!r}' for key, value in made.settings.items())})"
    copied = copy.deepcopy(made)
    assert (copied.function, copied.settings) == (function, made.settings)
    assert pickle.dumps(made)
    with pytest.raises(ConfigError, match=f'{function.__name__}: reduction = \'sum\', wanted "mean" or "none"'):
        module(reduction="sum")
    with pytest.raises(TypeError, match="unexpected keyword argument 'temprature'"):
        module(temprature=1.0)
    with pytest.raises(TypeError, match="positional"):
        module(1.0)


def test_a_module_can_be_subclassed():
    class Doubled(pld.losses.KDLoss):
        def __init__(self, factor):
            super().__init__(temperature=1.0)
            self.factor = nn.Parameter(torch.tensor(factor))

        def forward(self, *batch):
            return self.factor * super().forward(*batch)

    batch = torch.randn(3, 5), torch.randn(3, 5), torch.tensor([0, 1, 2])
    assert list(inspect.signature(Doubled).parameters) == ["factor"]
    assert torch.equal(Doubled(2.0)(*batch), 2 * pld.losses.kd_loss(*batch, temperature=1.0))
