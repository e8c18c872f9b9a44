"""Names of teachers, as `--teacher` takes them: aliases for the paper's, timm's names, and folders of models."""

from __future__ import annotations

import difflib
from pathlib import Path

import timm

from pld.errors import TeacherError

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


def check_model_name(name: str, *, alias: str | None = None) -> None:
    """Raise TeacherError, with the nearest names, unless timm can build a model of this name; `alias` stands for it."""
    if name.startswith(FOLDER_PREFIXES):
        folder = Path(name.removeprefix("local-dir:"))
        if name.startswith("local-dir:") and not (folder / "config.json").is_file():
            raise TeacherError(f"{folder}: no config.json; wanted a model's folder, as train_student writes it")
        return
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, sorted({*ALIASES, *timm.list_models()}), n=5, cutoff=0.5)
        raise TeacherError(f"unknown model {alias or name!r}; nearest are {', '.join(near) or 'none'}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise TeacherError(f"{architecture} has no weights {tag!r}; it has {', '.join(tags) or 'none'}")
