"""Names of teachers, as `--teacher` takes them: kinds by prefix, aliases for the paper's, and timm's names."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm

from pld.errors import TeacherError
from pld.plugins import Registry, failed_plugins
from pld.teachers.teacher import Teacher

# The paper names architectures and accuracies, not weights. Each tag is the published one nearest to the paper's
# top-1 (in brackets) at the resolution of the paper's students; none matches it exactly.
ALIASES = {
    "vit_large": "vit_large_patch16_224.augreg_in21k_ft_in1k",  # 85.9 (84.80): the only 224 px fine-tuned tag
    "vit_base": "vit_base_patch16_224.orig_in21k_ft_in1k",  # 81.8 (82.07): augreg's 84.5 is farther
    "resnet152": "resnet152.gluon_in1k",  # 79.7 (79.61): a1h has 82.8
    "mnv4_conv_large": "mobilenetv4_conv_large.e500_r256_in1k",  # 81.9 (80.83): the smaller of its two sizes
    "mnv4_hybrid_medium": "mobilenetv4_hybrid_medium.e500_r224_in1k",  # 80.4 (78.66): the only 224 px tag
    "mnv4_hybrid_large": "mobilenetv4_hybrid_large.e600_r384_in1k",  # the paper gives no top-1
}

# Prefixes with which timm loads a model's folder, including its config.json.
FOLDER_PREFIXES = ("local-dir:", "hf-hub:")
# Prefixes of models that are not timm's; plug-ins register more.
TORCHVISION, TRANSFORMERS, PYTHON = "torchvision:", "transformers:", "python:"
# What loads the models of each kind, given their full name and a file of weights; `build_teacher` fills it.
KINDS: Registry[Callable[[str, str | None], Teacher]] = Registry("kind of teacher")


def kind_of(name: str) -> str | None:
    """The kind that a teacher's name begins with, such as torchvision; None for timm's models."""
    kind, colon, _ = name.partition(":")
    return kind if colon and not name.startswith(FOLDER_PREFIXES) and kind in KINDS else None


def check_model_name(name: str, *, alias: str | None = None) -> None:
    """Raise TeacherError, with the nearest names, unless timm can build a model of this name; `alias` stands for it."""
    if kind_of(name):
        raise TeacherError(
            f"{name}: only a teacher can be named so; a student is a timm model: a timm name, local-dir:FOLDER or "
            "hf-hub:REPO"
        )
    if name.startswith(FOLDER_PREFIXES):
        if name.startswith("local-dir:"):
            _check_timm_folder(Path(name.removeprefix("local-dir:")))
        return
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise TeacherError(f"unknown model {alias or name!r}; {_advise(alias or name)}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise TeacherError(f"{architecture} has no weights {tag!r}; it has {', '.join(tags) or 'none'}")


def stated_identity(name: str) -> tuple[str, str] | None:
    """The architecture and tag that a teacher's name states; the tag is "" where it does not say.

    None where only a folder or a hub knows: `local-dir:`, `hf-hub:` and `transformers:`.
    """
    if name.startswith((*FOLDER_PREFIXES, TRANSFORMERS)):
        return None
    if not name.startswith(TORCHVISION) and kind_of(name):
        return name, ""
    architecture, _, tag = ALIASES.get(name, name).partition(".")
    return architecture, tag


def short_name(name: str) -> str:
    """A teacher's name without folders, for the name of its store; models that are not timm's keep their kind."""
    kind = kind_of(name)
    return f"{kind}:{Path(name.removeprefix(f'{kind}:')).name}" if kind else Path(name).name


def read_model_config(folder: Path) -> dict[str, Any] | None:
    """A model folder's config.json; None if there is none.

    Raises:
        TeacherError: it is not a JSON object.
    """
    path = folder / "config.json"
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TeacherError(f"{path}: not readable as JSON: {error}; copy the model's folder again") from error
    if not isinstance(config, dict):
        raise TeacherError(f"{path}: found a JSON {type(config).__name__}, wanted an object; copy the folder again")
    return config


def folder_prefix(folder: Path) -> str | None:
    """The prefix under which a folder of a model is a teacher, by its config.json; None if it is none."""
    config = read_model_config(folder) or {}
    if "architecture" in config or "pretrained_cfg" in config:
        return "local-dir:"
    return TRANSFORMERS if "model_type" in config or "architectures" in config else None


def _check_timm_folder(folder: Path) -> None:
    """Raise TeacherError unless this is a folder that timm reads."""
    if read_model_config(folder) is None:
        raise TeacherError(f"{folder}: no config.json; wanted a model's folder, as train_student writes it")
    prefix = folder_prefix(folder)
    if prefix == TRANSFORMERS:
        raise TeacherError(
            f"{folder}: a model of transformers, not timm's; to use it as a teacher: --teacher {TRANSFORMERS}{folder}"
        )
    if prefix is None:
        raise TeacherError(
            f"{folder}: its config.json names no architecture; wanted a model's folder, as train_student writes it"
        )


def _advise(name: str) -> str:
    """What the user may have meant by a name that timm does not know."""
    folder = Path(name)
    if folder.is_dir():
        prefix = folder_prefix(folder)
        return f"for this folder write {prefix}{name}" if prefix else "it is a folder without a model's config.json"
    if folder.is_file():
        return f"for a file of weights give its architecture too: --teacher ARCHITECTURE --weights {name}"
    near = difflib.get_close_matches(name.partition(".")[0], sorted({*ALIASES, *timm.list_models()}), n=5, cutoff=0.5)
    prefixes = " or ".join(f"{kind}:" for kind in KINDS)
    failed = failed_plugins() if ":" in name else ""
    return f"nearest are {', '.join(near) or 'none'}; models that are not timm's begin with {prefixes}{failed}"
