"""The paper's result tables (arXiv:2506.12542), row by row: what each trains, its figure there; and further methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

PAPER = "the paper"
UNSTATED = "ours: the paper does not say"
_BEST = "ours: the paper's best for ResNet-50 <- ResNet-152"


@dataclasses.dataclass(frozen=True)
class Setting:
    """An option's value, and where it comes from."""

    value: Any
    origin: str


Settings = Mapping[str, Setting]


def _all(origin: str, **values: Any) -> dict[str, Setting]:
    return {name: Setting(value, origin) for name, value in values.items()}


BASE: Settings = {
    "num_classes": Setting(1000, "ImageNet-1k"),
    "image_size": Setting(224, PAPER),
    "crop_fraction": Setting(224 / 236, f"{PAPER}: resized to 236, the centre 224 cropped"),
    "epochs": Setting(100, PAPER),
    "batch_size": Setting(2048, f"{PAPER}: 8 x 256"),
    "opt": Setting("lamb", PAPER),
    "lr": Setting(5e-3, PAPER),
    "weight_decay": Setting(0.02, PAPER),
    "sched": Setting("cosine", PAPER),
    "warmup_epochs": Setting(5, f"{PAPER}: linear"),
    "min_lr": Setting(0.0, UNSTATED),
    "precision": Setting("bf16", UNSTATED),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A model of the paper.

    Attributes:
        title: the paper's name.
        name: timm's name of a student; of a teacher the alias in pld.teachers.
        top1: of a teacher in the paper, percent, where it says.
    """

    title: str
    name: str
    top1: float | None = None


STUDENTS = {
    "resnet50": Model(title="ResNet-50", name="resnet50"),
    "vit_small": Model(title="ViT-S", name="vit_small_patch16_224"),
    "mnv4_hybrid_medium": Model(title="MNv4 Hybrid-M", name="mobilenetv4_hybrid_medium"),
    "mnv4_conv_medium": Model(title="MNv4 Conv-M", name="mobilenetv4_conv_medium"),
    "mnv4_conv_small": Model(title="MNv4 Conv-S", name="mobilenetv4_conv_small"),
}
TEACHERS = {
    model.name: model
    for model in (
        Model(title="ViT-L", name="vit_large", top1=84.80),
        Model(title="ViT-B", name="vit_base", top1=82.07),
        Model(title="ResNet-152", name="resnet152", top1=79.61),
        Model(title="MNv4 Conv-L", name="mnv4_conv_large", top1=80.83),
        Model(title="MNv4 Hybrid-M", name="mnv4_hybrid_medium", top1=78.66),
        Model(title="MNv4 Hybrid-L", name="mnv4_hybrid_large"),
    )
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """One row of the paper's tables, or a further method in the paper's setting.

    Attributes:
        student: a key of STUDENTS.
        teacher: a key of TEACHERS; None for what learns from labels alone.
        method: the name's part for the loss and what else is not the base's, such as kd_alpha0.3.
        table: what the paper's table compares; of a method that it has not, where that is from.
        top1: the paper's top-1 of the student, percent; None for a method that it has not.
        top5: its top-5, where it says.
        changes: the loss's settings, and what differs from BASE.
    """

    student: str
    teacher: str | None
    method: str
    table: str
    top1: float | None
    top5: float | None = None
    changes: Settings

    @property
    def name(self) -> str:
        """What `--config` calls it."""
        folder = "paper" if self.top1 is not None else "methods"
        return f"{folder}/" + "_".join(filter(None, (self.student, self.teacher, self.method)))

    @property
    def settings(self) -> dict[str, Setting]:
        """All that a run of it sets but data, store, teacher and output."""
        loss = {name: setting for name, setting in self.changes.items() if name not in BASE}
        rest = {name: self.changes.get(name, setting) for name, setting in BASE.items()}
        return {"model": Setting(STUDENTS[self.student].name, PAPER), **loss, **rest}


def _kd(alpha: float = 0.1, origin: str = _BEST) -> dict[str, Setting]:
    return {**_all(PAPER, loss="kd"), **_all(origin, temperature=2.0, alpha=alpha)}


def _dist(alpha: float = 0.1, origin: str = _BEST) -> dict[str, Setting]:
    share = round((1 - alpha) / 2, 2)
    weights = _all(f"{PAPER}: (1 - alpha) / 2", beta=share, gamma=share)
    return {**_all(PAPER, loss="dist", temperature=1.0), **_all(origin, alpha=alpha), **weights}


def _pld(temperature: float = 1.0, origin: str = _BEST) -> dict[str, Setting]:
    return {**_all(PAPER, loss="pld"), **_all(origin, temperature=temperature)}


_AS_KD = "ours: as KD's, for the paper's could not be checked"
_AUTHORS = "the authors' code for ImageNet"
_METHODS = {"kd": _kd(), "dist": _dist(), "pld": _pld()}
_STUDY = ("resnet50", "resnet152")  # the pair of the losses' own settings
_SMALL = ("mnv4_conv_small", "mnv4_hybrid_large")  # the pair of optimisers and logit standardisation
_ALSO = "teacher-student pairs and "  # the rows of the studied pair that are its best settings
_LONG = _all(PAPER, epochs=300)

# Student, teacher, and the paper's top-1 of KD, DIST and PLD.
_PAIRS = (
    ("vit_small", "vit_large", (75.33, 74.91, 75.63)),
    ("mnv4_hybrid_medium", "mnv4_conv_large", (75.47, 75.98, 76.33)),
    ("mnv4_conv_medium", "mnv4_conv_large", (74.86, 75.40, 75.72)),
    ("mnv4_conv_small", "mnv4_conv_large", (67.38, 70.05, 70.07)),
    ("resnet50", "mnv4_hybrid_medium", (76.85, 77.00, 77.34)),
    ("resnet50", "mnv4_conv_large", (73.98, 75.05, 75.53)),
    ("resnet50", "vit_base", (74.27, 75.40, 75.80)),
    ("resnet50", "vit_large", (75.98, 76.86, 77.38)),
)

# timm's name, the learning rate, and the paper's top-1 of KD, DIST and PLD.
_OPTIMIZERS = (
    ("adabelief", Setting(2e-3, "ours: as AdamW's"), (68.92, 69.91, 70.80)),
    ("adamw", Setting(2e-3, "ours: DeiT's 5e-4 for each 512 images"), (68.89, 69.94, 70.85)),
    ("adan", Setting(1e-2, "ours: 5 x AdamW's, as Adan's authors recommend"), (68.52, 70.07, 70.82)),
)


# Of methods that the paper has not: where they are from, and the settings.
_FURTHER: Mapping[str, tuple[str, Settings]] = {
    "wttm": ("arXiv:2402.11148", _all("ours: the paper's could not be checked", temperature=2.0, alpha=1.0, beta=1.0)),
    "ea_kd": ("arXiv:2311.13621", _all(_AUTHORS, temperature=1.0, entropy_temperature=2.0, alpha=1.0, beta=0.5)),
    "rld": ("arXiv:2408.07703", _all(_AUTHORS, temperature=1.0, alpha=1.0, beta=0.5)),
    "soft_ce": ("arXiv:2112.01528", _all("FKD's code: not tempered", temperature=1.0)),
}


def paper_recipes() -> tuple[Recipe, ...]:
    """Every row of the paper's tables, one recipe for each setting, then the further methods."""
    parts = (_pairs, _losses, _optimizers, _standardized, _divergences, _further)
    return tuple(recipe for part in parts for recipe in part())


def _pairs() -> Iterator[Recipe]:
    for student, teacher, figures in _PAIRS:
        yield from _three(student, teacher, "", "teacher-student pairs", figures)
    yield from _three("mnv4_conv_medium", "mnv4_conv_large", "_300epochs", "300 epochs", (76.14, 76.56, 76.94), _LONG)
    for epochs, top1, changes in (("", 72.37, {}), ("_300epochs", 73.04, _LONG)):
        table = "300 epochs" if epochs else "teacher-student pairs"
        changes = {**_all(PAPER, loss="ce"), **changes}
        yield _recipe(("mnv4_conv_medium", None), f"ce{epochs}", table, top1, changes)


def _losses() -> Iterator[Recipe]:
    """ResNet-50 <- ResNet-152: every loss, and its temperature and weights."""
    labels = (_STUDY[0], None)
    yield _recipe(labels, "ce", "losses", 71.35, _all(PAPER, loss="ce"))
    yield _recipe(labels, "ls", "losses", 73.92, _all(PAPER, loss="ls", label_smoothing=0.1))
    kd = (75.92, 76.80, 76.65, 76.30, 76.33, 76.12, 75.94, 75.85, 75.21, 74.28)
    dist = (76.47, 76.60, 75.69, 74.88, 73.90, 72.94, 72.71, 71.85, 71.89, 71.40)
    for name, make, figures in (("kd", _kd, kd), ("dist", _dist, dist)):
        for tenths, top1 in enumerate(figures):
            method = name if tenths == 1 else f"{name}_alpha{tenths / 10:g}"
            table = f"{_ALSO if tenths == 1 else ''}{name.upper()}'s alpha"
            yield _recipe(_STUDY, method, table, top1, make(tenths / 10, PAPER))
    for temperature, top1 in ((0.5, 76.06), (1.0, 77.30), (1.5, 77.17), (2.0, 76.46), (4.0, 75.22)):
        method = "pld" if temperature == 1 else f"pld_t{temperature:g}"
        table, top5 = (f"{_ALSO}PLD's temperature", 93.28) if temperature == 1 else ("PLD's temperature", None)
        yield _recipe(_STUDY, method, table, top1, _pld(temperature, PAPER), top5)
    yield _recipe(_STUDY, "listmle", "ranking losses", 74.11, _all(PAPER, loss="listmle"), 90.60)
    yield _recipe(_STUDY, "plistmle", "ranking losses", 76.60, _all(PAPER, loss="plistmle"), 93.23)


def _optimizers() -> Iterator[Recipe]:
    yield from _three(*_SMALL, "", "optimisers", (68.46, 70.41, 71.16))
    for opt, lr, figures in _OPTIMIZERS:
        decay = Setting(BASE["weight_decay"].value, "ours: the same for every optimiser")
        changes = {"opt": Setting(opt, PAPER), "lr": lr, "weight_decay": decay}
        yield from _three(*_SMALL, f"_{opt}", "optimisers", figures, changes)


def _standardized() -> Iterator[Recipe]:
    both = _all(PAPER, standardize="both")
    yield from _three(*_SMALL, "_standardized", "logit standardisation", (69.14, 71.12, 70.66), both)
    changes = {**_METHODS["pld"], **_all(PAPER, standardize="teacher")}
    yield _recipe(_SMALL, "pld_standardized_teacher", "logit standardisation", 70.81, changes)


def _divergences() -> Iterator[Recipe]:
    for loss, top1 in (("rkl", 67.44), ("js", 69.83)):
        yield _recipe(
            _SMALL, loss, "divergences", top1, {**_all(PAPER, loss=loss), **_all(_AS_KD, temperature=2.0, alpha=0.1)}
        )


def _further() -> Iterator[Recipe]:
    for loss, (origin, settings) in _FURTHER.items():
        yield _recipe(_STUDY, loss, origin, None, {**_all(origin, loss=loss), **settings})


def _three(
    student: str, teacher: str, suffix: str, table: str, figures: tuple[float, ...], more: Settings | None = None
) -> Iterator[Recipe]:
    """KD, DIST and PLD of a pair; `more` is what else is not the base's."""
    for (method, changes), top1 in zip(_METHODS.items(), figures, strict=True):
        yield _recipe((student, teacher), method + suffix, table, top1, {**changes, **(more or {})})


def _recipe(
    pair: tuple[str, str | None],
    method: str,
    table: str,
    top1: float | None,
    changes: Settings,
    top5: float | None = None,
) -> Recipe:
    student, teacher = pair
    return Recipe(student=student, teacher=teacher, method=method, table=table, top1=top1, top5=top5, changes=changes)
