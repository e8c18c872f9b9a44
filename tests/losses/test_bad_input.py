"""Arguments and settings that do not fit are refused, and the message says what to do."""

import jaxtyping
import pytest
import torch

from pld.errors import ConfigError, SignalError
from pld.losses import (
    build_loss,
    pld_loss,
)
from pld.signals import TopK

GOOD = (torch.zeros(3, 5), torch.zeros(3, 5), torch.tensor([0, 1, 2]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3), *GOOD[1:]), r"student_logits: found .*\[3\], wanted floating point of shape \[B, C\]"),
        ((GOOD[0], torch.zeros(3, 4), GOOD[2]), r"teacher: found .*\[3, 4\], wanted .*\[3, 5\]"),
        ((*GOOD[:2], torch.tensor([0, 1])), r"labels: found shape \[2\], wanted \[3\]"),
        ((*GOOD[:2], torch.tensor([0, 1, 5])), r"labels: found 0..5, wanted 0..4"),
        ((*GOOD[:2], torch.tensor([0, 1, 2], dtype=torch.int32)), "labels: found torch.int32, wanted int64"),
        ((torch.full((3, 5), torch.nan), *GOOD[1:]), r"student_logits of shape \[3, 5\]: found 15 inf or nan"),
        ((GOOD[0], torch.full((3, 5), torch.inf), GOOD[2]), r"teacher of shape \[3, 5\]: found 15 inf or nan"),
    ],
)
def test_bad_input(arguments, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users have our checks alone
    with pytest.raises(SignalError, match=message):
        pld_loss(*arguments)


def test_a_top_k_serves_its_own_labels_and_what_it_holds():
    student, teacher, labels = torch.randn(3, 5), torch.randn(3, 5), torch.tensor([0, 1, 2])
    topk = TopK.from_logits(teacher, labels, 2)
    with pytest.raises(SignalError, match=r"1 of 3 differ from teacher\.labels"):
        pld_loss(student, topk, torch.tensor([0, 1, 3]))
    with pytest.raises(SignalError, match=r"temperature 0.5: .* holds 1"):
        pld_loss(student, topk, labels, temperature=0.5)
    for loss in ("listmle", "kd", "dkd"):
        with pytest.raises(SignalError, match="k = 2 of 5 classes, wanted all"):
            build_loss(loss)(student, topk, labels)
    with pytest.raises(SignalError, match="wanted all"):
        pld_loss(student, topk, labels, temperature=2.0)
    with pytest.raises(ConfigError, match="loss 'pdl'"):
        build_loss("pdl")
    with pytest.raises(ConfigError, match="has no setting 'temprature': did you mean temperature"):
        build_loss("pld", temprature=2.0)
    with pytest.raises(ConfigError, match="loss 'plistmle' has no setting 'temprature': it has none"):
        build_loss("plistmle", temprature=2.0)
    with pytest.raises(ConfigError, match="temperature = 0"):
        build_loss("pld", temperature=0)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "ce",
            {"temperature": 2.0},
            "'temperature': leave out, or take back from a recipe by --temperature null; its settings: label_smoothing",
        ),
        ("ce", {"alpha": 0.1, "beta": 1.0}, r"'alpha', 'beta': leave out, or .* by --alpha null --beta null; its"),
        ("pld", {"gamma": 1.0}, "'gamma': .* by --gamma null; its settings: temperature, tail, backend"),
        ("listmle", {"temperature": 1.0}, "'temperature': .* by --temperature null; its settings: none"),
    ],
)
def test_a_setting_of_another_loss_is_to_be_taken_back(name, settings, message):
    with pytest.raises(ConfigError, match=f"^loss '{name}' has no setting {message}"):
        build_loss(name, **settings)


@pytest.mark.parametrize("name", ["ce", "ls"])
def test_a_loss_without_a_teacher_has_none_to_standardise(name):
    with pytest.raises(ConfigError, match=r"it has no teacher: leave out, or take .* by --standardize none"):
        build_loss(name, standardize="teacher")
    assert build_loss(name, standardize="none").standardize == "none"
