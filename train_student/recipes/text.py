"""A recipe as text: its YAML file, and its row of `make recipes`."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from pld.options import options
from pld.report.table import as_text
from pld.teachers import ALIASES
from train_student.config import TrainConfig
from train_student.recipes.table import BASE, STUDENTS, TEACHERS, Recipe

ARXIV = "arXiv:2506.12542"
DATA = "data/imagenet"
_VIEWS, _SMALL_K = 50, 50
COLUMNS = ("recipe", "top-1 %", "top-5 %", "the paper's table of", "teacher", "k", "differs from the base in", "store")
_MADE_BY = "Made by `python -m train_student.recipes --write`; change train_student/recipes/table.py instead."


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreNeed:
    """The store a recipe wants.

    Attributes:
        path: its folder.
        command: what makes it.
        all_classes: why it must hold every class; None where any k will do.
    """

    path: str
    command: str
    all_classes: str | None


def values(recipe: Recipe) -> dict[str, Any]:
    """The options that the recipe's file sets, by flat names."""
    store = store_need(recipe)
    places = {"data": DATA, "store": store.path, "teacher": recipe.teacher} if store else {"data": DATA}
    settings = {name: setting.value for name, setting in recipe.settings.items()}
    return {**places, **settings, "output": f"runs/{recipe.name}"}


def store_need(recipe: Recipe) -> StoreNeed | None:
    """The store a recipe wants, None if it has no teacher; with the paths that `make cache` gives by itself."""
    if recipe.teacher is None:
        return None
    settings = {name: setting.value for name, setting in recipe.settings.items()}
    config = TrainConfig.from_flat(settings, data=DATA, online_teacher=True, teacher=recipe.teacher)
    reason = config.loss.build().required_signal.all_classes
    num_classes = settings["num_classes"]
    path, k = f"stores/imagenet-{recipe.teacher}-train", f"K={_SMALL_K}"
    if reason:
        path = f"{path}-k{num_classes}"
        k = f"K={num_classes} STORE={path}"
    command = f"make cache TEACHER={recipe.teacher} DATA={DATA} VIEWS={_VIEWS} {k}"
    return StoreNeed(path=path, command=command, all_classes=reason)


def as_yaml(recipe: Recipe) -> str:
    """The recipe's file: what it is and needs as a comment, then its options, each with where it comes from."""
    return "\n".join([*(f"# {line}".rstrip() for line in _described(recipe)), *_options(recipe)]) + "\n"


def as_rows(recipes: Sequence[Recipe]) -> list[tuple[str, ...]]:
    """One row of COLUMNS for each recipe."""
    return [_row(recipe, store_need(recipe)) for recipe in recipes]


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
            as_text(COLUMNS, as_rows(recipes)),
            as_text(("the base", "", "from"), base),
            as_text(("other values", "", "from"), sorted(origins)),
            as_text(("teacher", "timm's weights nearest the paper's"), weights),
            f"Figures: {ARXIV}, without seeds or error bars. k = any: --store may name a store of any k, 50 is "
            "recommended.\nk = 1000: or, with no store, --store null --online-teacher.",
        ]
    )


def _row(recipe: Recipe, store: StoreNeed | None) -> tuple[str, ...]:
    changes = {"model": STUDENTS[recipe.student].name}
    changes |= {
        name: new.value for name, new in recipe.changes.items() if name not in BASE or new.value != BASE[name].value
    }
    return (
        recipe.name,
        f"{recipe.top1:.2f}",
        f"{recipe.top5:.2f}" if recipe.top5 else "",
        recipe.table,
        recipe.teacher or "none",
        "" if store is None else str(BASE["num_classes"].value) if store.all_classes else "any",
        ", ".join(f"{name} {_shown(value)}" for name, value in changes.items()),
        store.path if store else "",
    )


def _described(recipe: Recipe) -> Iterator[str]:
    """The lines of the comment that heads a recipe's file."""
    student, store = STUDENTS[recipe.student], store_need(recipe)
    pair = f"{student.title} <- {TEACHERS[recipe.teacher].title}" if recipe.teacher else student.title
    top5 = f", top-5 {recipe.top5:.2f}" if recipe.top5 else ""
    yield f"{pair}: {recipe.method}. The paper: top-1 {recipe.top1:.2f}{top5} ({ARXIV}, table of {recipe.table})."
    yield ""
    yield _labelled("train", f"accelerate launch train_student.py --config {recipe.name}")
    if store and recipe.teacher:
        yield _labelled("cache", store.command)
        yield from _about_teacher(recipe.teacher)
        yield from _about_store(recipe, store)
    else:
        yield _labelled("k", "none: no teacher")
        yield _labelled("views", "a new one each epoch")
    yield from _wrapped("elsewhere", "--data, --store and --output name other places; other data also --num_classes")
    yield ""
    yield _MADE_BY


def _about_teacher(teacher: str) -> Iterator[str]:
    top1 = TEACHERS[teacher].top1
    figure = f"the paper's had top-1 {top1:.2f}" if top1 else "the paper does not give its top-1"
    yield from _wrapped("teacher", f"{teacher}: timm's {ALIASES[teacher]}, the nearest published; {figure}")


def _about_store(recipe: Recipe, store: StoreNeed) -> Iterator[str]:
    if store.all_classes:
        yield from _wrapped("k", f"all {BASE['num_classes'].value} classes: {store.all_classes}")
    else:
        yield from _wrapped("k", f"any; {_SMALL_K} recommended. A store with more classes serves as well")
    yield _labelled("live", "--store null --online-teacher: the teacher runs in training, no store is needed")
    epochs = recipe.settings["epochs"].value
    each = f"{_VIEWS}, each in {epochs // _VIEWS} of the {epochs} epochs"
    yield from _wrapped("views", f"{each}; a live teacher has a new one each epoch, and so has VIEWS={epochs}")
    if recipe.changes["loss"].value == "dist":
        yield from _wrapped(
            "processes", "8, as in the paper: DIST's column term is over each one's 256 images, and changes with it"
        )


def _wrapped(label: str, text: str) -> Iterator[str]:
    first, *rest = textwrap.wrap(text, 100, break_on_hyphens=False, break_long_words=False)
    yield _labelled(label, first)
    yield from (_labelled("", line) for line in rest)


def _labelled(label: str, text: str) -> str:
    return f"  {label:<10} {text}"


def _options(recipe: Recipe) -> Iterator[str]:
    """YAML lines of the recipe's options in their groups."""
    held, group = values(recipe), None
    for name, each in options(TrainConfig).items():
        if name in held:
            if each.group != group:
                yield f"{each.group}:"
            group, setting = each.group, recipe.settings.get(name)
            yield f"  {each.field.name}: {_shown(held[name])}" + (f"  # {setting.origin}" if setting else "")


def _shown(value: Any) -> str:
    """A value as YAML writes it."""
    return str(yaml.safe_dump(value, default_flow_style=True)).removesuffix("...\n").strip()
