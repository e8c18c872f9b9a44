"""A recipe as text: its YAML file, and its row of `make recipes`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Template

from pld.options import options
from pld.report.table import as_text
from pld.teachers import ALIASES
from train_student.config import TrainConfig
from train_student.recipes.table import BASE, STUDENTS, TEACHERS, Recipe

ARXIV = "arXiv:2506.12542"
DATA = "data/imagenet"
_VIEWS = 50  # what `make cache` does by itself
_TEMPLATE = Path(__file__).parent / "recipe.yaml.jinja"
COLUMNS = ("recipe", "top-1 %", "top-5 %", "the paper's table of", "teacher", "k", "differs from the base in", "store")


def as_yaml(recipe: Recipe) -> str:
    """The recipe's file: what it is and needs as a comment, then its options, each with where it comes from."""
    template = Template(_TEMPLATE.read_text(), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    text: str = template.render(
        recipe=recipe,
        student=STUDENTS[recipe.student],
        teacher=recipe.teacher and TEACHERS[recipe.teacher],
        weights=recipe.teacher and ALIASES[recipe.teacher],
        all_classes=_all_classes(recipe),
        store=_store(recipe),
        loss=recipe.changes["loss"].value,
        epochs=recipe.settings["epochs"].value,
        views=_VIEWS,
        data=DATA,
        arxiv=ARXIV,
        options=list(_options(recipe)),
    )
    return text


def listing(recipes: Sequence[Recipe]) -> str:
    """What `make recipes` prints: the table, the base it compares with, and where every setting comes from."""
    base = [(name, _shown(setting.value), setting.origin) for name, setting in BASE.items()]
    origins = {
        (name, _shown(setting.value), setting.origin)
        for recipe in recipes
        for name, setting in recipe.changes.items()
        if name in BASE
    }
    weights = sorted({(name, ALIASES[name]) for recipe in recipes if (name := recipe.teacher)})
    return "\n\n".join(
        [
            as_text(COLUMNS, list(map(_row, recipes))),
            as_text(("the base", "", "from"), base),
            as_text(("other values", "", "from"), sorted(origins)),
            as_text(("teacher", "timm's weights nearest the paper's"), weights),
            f"Figures: {ARXIV}, without seeds or error bars. k = any: --store may name a store of any k, 50 is "
            "recommended.\nk = 1000: or, with no store, --store null --online-teacher.",
        ]
    )


def _all_classes(recipe: Recipe) -> str | None:
    """Why the recipe's store must hold every class; None where any k will do."""
    settings = {name: setting.value for name, setting in recipe.settings.items()}
    return TrainConfig.from_flat(settings, dry_run=True).loss.build().required_signal.all_classes


def _store(recipe: Recipe) -> str:
    """The folder of the store it wants, which `make cache` gives by itself unless k is 1000; empty for no teacher."""
    path = f"stores/imagenet-{recipe.teacher}-train" if recipe.teacher else ""
    return f"{path}-k{BASE['num_classes'].value}" if path and _all_classes(recipe) else path


def _row(recipe: Recipe) -> tuple[str, ...]:
    changes = {"model": STUDENTS[recipe.student].name}
    changes |= {
        name: new.value for name, new in recipe.changes.items() if name not in BASE or new.value != BASE[name].value
    }
    return (
        recipe.name,
        f"{recipe.top1:.2f}" if recipe.top1 is not None else "",
        f"{recipe.top5:.2f}" if recipe.top5 else "",
        recipe.table if recipe.top1 is not None else f"none: {recipe.table}",
        recipe.teacher or "none",
        "" if not recipe.teacher else str(BASE["num_classes"].value) if _all_classes(recipe) else "any",
        ", ".join(f"{name} {_shown(value)}" for name, value in changes.items()),
        _store(recipe),
    )


def _options(recipe: Recipe) -> Iterator[str]:
    """YAML lines of the recipe's options in their groups."""
    held = {name: setting.value for name, setting in recipe.settings.items()}
    held |= {"data": DATA, "output": f"runs/{recipe.name}"}
    if recipe.teacher:
        held |= {"store": _store(recipe), "teacher": recipe.teacher}
    group = None
    for name, each in options(TrainConfig).items():
        if name in held:
            if each.group != group:
                yield f"{each.group}:"
            group, setting = each.group, recipe.settings.get(name)
            yield f"  {each.field.name}: {_shown(held[name])}" + (f"  # {setting.origin}" if setting else "")


def _shown(value: Any) -> str:
    """A value as YAML writes it."""
    return str(yaml.safe_dump(value, default_flow_style=True)).removesuffix("...\n").strip()
