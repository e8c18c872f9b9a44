"""Each of the paper's recipes: its figure and settings, and the model, optimizer, schedule and loss built from it."""

import functools
import math
import re

import pytest
import torch

from cache_teacher.config import CacheConfig
from pld.classes.matching import Classes
from pld.config import parse_config
from pld.errors import ConfigError
from pld.signals import TopK
from pld.teachers import ALIASES
from tests.train_student.recipes import paper_tables
from train_student.config import RECIPES, TrainConfig
from train_student.model.optimizer import build_optimizer, build_schedule
from train_student.model.student import build_student
from train_student.option_groups import ModelOptions
from train_student.recipes.__main__ import main as recipes_main
from train_student.recipes.__main__ import write

FIGURES = paper_tables.figures()
ALPHAS = {**{f"alpha{tenths / 10:g}": tenths / 10 for tenths in range(10)}, "": 0.1}
STEPS = 1_281_167 // 2048  # ImageNet-1k's training images


def config_of(name, *argv):
    return parse_config(TrainConfig, ["--config", f"paper/{name}", *argv], prog="", description="", named_files=RECIPES)


def student_of(name):
    return next(key for key in sorted(paper_tables.STUDENTS, key=len, reverse=True) if name.startswith(f"{key}_"))


@functools.cache
def model_of(model):
    with torch.device("meta"):
        return build_student(ModelOptions(name=model), Classes(names=None, count=1000, owner="ImageNet-1k")).model


def test_there_is_a_recipe_for_each_row_and_no_other():
    assert {path.stem for path in (RECIPES / "paper").iterdir()} == set(FIGURES)
    assert len(FIGURES) == 76


def test_the_files_are_what_the_table_makes(tmp_path):
    for folder in ("paper", "methods"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "stale.yaml").write_text("")
    write(tmp_path)
    for folder in ("paper", "methods"):
        made, kept = ({p.name: p.read_text() for p in (root / folder).iterdir()} for root in (tmp_path, RECIPES))
        assert made == kept, "run `python -m train_student.recipes --write`"


@pytest.mark.parametrize("name", FIGURES)
def test_a_recipe_says_the_papers_figure_and_what_it_needs(name):
    text = (RECIPES / "paper" / f"{name}.yaml").read_text()
    assert re.search(r"The paper: top-1 ([\d.]+)[ ,]", text)[1] == f"{FIGURES[name]:.2f}"
    top5 = re.search(r"top-5 ([\d.]+) ", text)
    assert (float(top5[1]) if top5 else None) == paper_tables.TOP5.get(name)
    assert f"accelerate launch train_student.py --config paper/{name}\n" in text
    config = config_of(name)
    if name in paper_tables.LABELS_ALONE:
        assert (config.teacher.store, config.teacher.name) == (None, None)
        return
    teacher = next(alias for alias in ALIASES if f"_{alias}_" in name)
    assert config.teacher.name == teacher
    assert f"timm's {ALIASES[teacher]}, " in text
    words = re.search(r"make cache (.*)", text)[1].split()
    made = dict(word.split("=") for word in words)
    assert (made["TEACHER"], made["DATA"], made["VIEWS"]) == (teacher, config.data.images, "50")
    cache = CacheConfig(teacher=teacher, data=config.data.images, store=made.get("STORE"))
    assert cache.store_path == config.teacher.store
    assert int(made["K"]) == (1000 if needs_all_classes(name) else 50)
    assert re.search(r"  k +(all 1000 classes: \w+|any)", text)[1].startswith(
        "all" if needs_all_classes(name) else "any"
    )
    assert "  live       --store null --online-teacher:" in text
    live = config_of(name, "--store", "null", "--online-teacher")
    assert (live.teacher.store, live.teacher.online_teacher) == (None, True)


def needs_all_classes(name):
    """KD at T = 2, PLD above T = 1, ListMLE, divergences that the student weighs, and all on standardised logits."""
    pattern = r"_kd($|_)|_rkl$|_js$|_pld_t(1\.5|2|4)$|_listmle$|_standardized"
    return re.search(pattern, name) is not None


@pytest.mark.parametrize("name", FIGURES)
def test_the_loss_is_the_tables(name):
    method = re.search(r"_(ce|ls|kd|dist|pld|listmle|plistmle|rkl|js)(?:_([a-z0-9_.]+))?$", name)
    loss, detail = method[1], method[2] or ""
    alpha = ALPHAS.get(detail, 0.1)
    settings = {
        "ce": {"label_smoothing": 0.0},
        "ls": {"label_smoothing": 0.1},
        "kd": {"alpha": alpha, "temperature": 2.0},
        "dist": {"alpha": alpha, "beta": (1 - alpha) / 2, "gamma": (1 - alpha) / 2, "temperature": 1.0},
        "pld": {"temperature": float(detail[1:]) if re.match(r"t\d", detail) else 1.0, "tail": "drop"},
        "listmle": {},
        "plistmle": {},
        "rkl": {"alpha": 0.1, "temperature": 2.0},
        "js": {"alpha": 0.1, "temperature": 2.0},
    }[loss]
    built = config_of(name).loss.build()
    assert built.name == loss
    held = {
        key: value for key, value in built.settings.items() if key not in ("approximate", "backend", "global_batch")
    }
    assert held == pytest.approx(settings) if "tail" not in held else held == settings
    assert built.standardize == {"standardized": "both", "standardized_teacher": "teacher"}.get(detail, "none")
    assert bool(built.required_signal.all_classes) == needs_all_classes(name)
    # It runs from what its store holds.
    torch.manual_seed(0)
    labels = torch.arange(8)
    teacher = TopK.from_logits(4 * torch.randn(8, 1000), labels, k=1000 if needs_all_classes(name) else 50,
                               temperatures=(0.5, 1.0, 1.5, 2.0, 4.0))  # fmt: skip
    logits = torch.randn(8, 1000, requires_grad=True)
    value = built(logits, teacher, labels)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize("student", paper_tables.STUDENTS)
def test_students(student):
    name, millions = paper_tables.STUDENTS[student]
    model = model_of(name)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions
    assert model(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 1000)


@pytest.mark.parametrize("name", FIGURES)
def test_model_optimizer_and_schedule_are_the_papers(name):
    config = config_of(name)
    options = config.optimizer
    assert config.model.name == paper_tables.STUDENTS[student_of(name)][0]
    assert (options.batch_size, options.warmup_epochs, options.sched) == (2048, 5, "cosine")
    epochs = 300 if name.endswith("_300epochs") else 100
    assert options.epochs == epochs
    assert config.model.image_size == 224
    assert config.validation.crop_fraction == 224 / 236
    model = model_of(config.model.name)
    optimizer = build_optimizer(options, model)
    opt = next((opt for opt in paper_tables.OPTIMIZERS if name.endswith(f"_{opt}")), "lamb")
    assert type(optimizer).__name__.lower() == opt
    # The paper's is LAMB's; the others are ours.
    peak = {"lamb": 5e-3, "adamw": 2e-3, "adabelief": 2e-3, "adan": 1e-2}[opt]
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for parameter_name, parameter in model.named_parameters():
        plain = parameter.ndim <= 1 or parameter_name in ("pos_embed", "cls_token")
        assert decays[id(parameter)] == (0 if plain else 0.02), parameter_name
    assert len(decays) == len(list(model.parameters()))
    schedule = build_schedule(options, optimizer, STEPS)
    assert STEPS == 625

    def lr_after(epoch):
        schedule.step_update(round(epoch * STEPS))
        (lr,) = {group["lr"] for group in optimizer.param_groups}
        return lr

    start = 1e-5  # timm's
    assert {group["lr"] for group in optimizer.param_groups} == {start}
    for epoch in (1, 2, 4):
        assert lr_after(epoch) == pytest.approx(start + (peak - start) * epoch / 5)
    for epoch in (5, 37, 50, epochs - 1):
        assert lr_after(epoch) == pytest.approx(peak * (1 + math.cos(math.pi * epoch / epochs)) / 2)
    assert lr_after(epochs) == 0


def test_an_unknown_key_offers_the_nearest(tmp_path):
    text = (RECIPES / "paper" / "resnet50_resnet152_pld.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("weight_decay:", "weigth_decay:"))
    with pytest.raises(
        ConfigError, match=r"unknown option 'optimizer\.weigth_decay'; nearest are optimizer\.weight_decay"
    ):
        parse_config(TrainConfig, ["--config", str(tmp_path / "mine.yaml")], prog="", description="")


def test_an_unknown_recipe_offers_the_nearest():
    with pytest.raises(
        ConfigError, match="neither a file nor a recipe's name; nearest are paper/resnet50_resnet152_pld"
    ):
        config_of("resnet50_resnet_pld")


def test_the_table_of_recipes(capsys):
    recipes_main([])
    lines = capsys.readouterr().out.splitlines()
    for name, top1 in FIGURES.items():
        (line,) = [line for line in lines if line.startswith(f"paper/{name} ")]
        assert f" {top1:.2f} " in line
        assert (" 1000 " in line, " any " in line) == (
            (needs_all_classes(name), not needs_all_classes(name))
            if name not in paper_tables.LABELS_ALONE
            else (False, False)
        )
    assert any(line.split() == ["lr", "0.005", "the", "paper"] for line in lines)
    assert any(line.split() == ["precision", "bf16", "ours:", "the", "paper", "does", "not", "say"] for line in lines)
