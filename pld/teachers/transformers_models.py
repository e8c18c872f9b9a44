"""Teachers of transformers: `transformers:REPO_OR_FOLDER`, image classifiers with their image processor."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from pld.classes.imagenet import recognise_imagenet
from pld.classes.matching import shorten_list
from pld.classes.names import check_names, infer_names
from pld.errors import ConfigError, TeacherError, first_line
from pld.extras import needs_extra
from pld.teachers.image_processor import read_preprocessing
from pld.teachers.names import TRANSFORMERS, folder_prefix, read_model_config
from pld.teachers.teacher import Teacher
from pld.teachers.trial import check_model
from pld.teachers.weights import weights_digest


def load(name: str, weights: str | None) -> Teacher:
    """The teacher; see `build_teacher`."""
    where = name.removeprefix(TRANSFORMERS)
    if weights:
        raise TeacherError(f"{name} with --weights {weights}: the model's folder has its weights; leave --weights out")
    is_folder = _check_place(where, name)
    with needs_extra("transformers", f"--teacher {name}"):
        import transformers
    config = _from_pretrained(transformers.AutoConfig, where, name)
    _check_config(config, name)
    model = _load_model(transformers.AutoModelForImageClassification, where, name, config)
    processor = _from_pretrained(transformers.AutoImageProcessor, where, name)
    preprocessing, squeeze_note = read_preprocessing(processor, name)
    logits = Logits(model)
    num_classes = check_model(logits, preprocessing, name).shape[1]
    if num_classes != config.num_labels:
        raise TeacherError(
            f"{name}: gives {num_classes} logits, its config.json names {config.num_labels} labels; correct id2label"
        )
    stated, names_note = _class_names(config.id2label, name)
    return Teacher(
        model=logits,
        preprocessing=preprocessing,
        architecture=f"{TRANSFORMERS}{type(model).__name__}",
        tag="" if is_folder else where,
        weights_sha256=weights_digest(model),
        num_classes=num_classes,
        class_names=stated or infer_names(num_classes),
        names_inferred=stated is None,
        code_sha256=_config_digest(where),
        notes=tuple(note for note in (squeeze_note, names_note) if note),
    )


class Logits(nn.Module):
    """A classifier of transformers whose forward pass gives the logits alone."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B C"]:
        """The logits of normalised images."""
        logits: Tensor = self.classifier(pixel_values=images, return_dict=True).logits
        return logits


def _check_place(where: str, name: str) -> bool:
    """Whether it is a folder, not a repository; raises TeacherError if it can be neither, or is timm's."""
    folder = Path(where)
    if not where or not folder.is_dir():
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", where) or where.startswith("."):
            raise TeacherError(f"{name}: no such folder; wanted a model's folder, or a repository's name USER/MODEL")
        return False
    if read_model_config(folder) is None:
        raise TeacherError(f"{name}: no config.json; wanted a model's folder, as save_pretrained writes it")
    if folder_prefix(folder) == "local-dir:":
        raise TeacherError(f"{name}: a folder of timm, not of transformers; name it local-dir:{where}")
    return True


def _from_pretrained(kind: Any, where: str, name: str, **settings: Any) -> Any:
    """`kind.from_pretrained`, without running code from the repository; raises TeacherError if it fails."""
    try:
        return kind.from_pretrained(where, trust_remote_code=False, **settings)
    except Exception as error:  # hubs, parsers and configurations fail in many ways
        if "trust_remote_code" in str(error):
            advice = "It brings code of its own, which is never run; load it by a function: python:MODULE:FUNCTION"
        elif Path(where).is_dir():
            advice = (
                "Wanted config.json, preprocessor_config.json and model.safetensors, as save_pretrained writes them"
            )
        else:
            advice = (
                f"Without a network, download it elsewhere ('hf download {where} --local-dir FOLDER') and name the "
                f"folder: --teacher {TRANSFORMERS}FOLDER"
            )
        raise TeacherError(f"{name}: {kind.__name__} cannot read it: {first_line(error)}\n{advice}") from error


def _config_digest(where: str) -> str:
    """sha256 of config.json, which says what is computed with the weights: activations, heads, pooling."""
    from transformers.utils.hub import cached_file

    return hashlib.sha256(Path(str(cached_file(where, "config.json"))).read_bytes()).hexdigest()


def _check_config(config: Any, name: str) -> None:
    """Refuse what is no plain classifier; attention kernels are left out, as they would be fetched and run."""
    config._attn_implementation = None  # PyTorch's own
    if getattr(config, "quantization_config", None):
        raise TeacherError(f"{name}: its config.json says quantized weights; name the model that they were made of")
    if config.model_type == "timm_wrapper":
        raise TeacherError(f"{name}: a model of timm; name it hf-hub:{name.removeprefix(TRANSFORMERS)}")
    if config.problem_type not in (None, "single_label_classification"):
        raise TeacherError(
            f"{name}: its config.json says {config.problem_type}; a ranking needs a classifier with one label an image"
        )


def _load_model(kind: Any, where: str, name: str, config: Any) -> nn.Module:
    """The model in float32; raises TeacherError if some of its tensors are not in the file, and would be random."""
    model, info = _from_pretrained(kind, where, name, config=config, output_loading_info=True)
    if missing := sorted(info["missing_keys"]):
        raise TeacherError(
            f"{name}: its weights lack {len(missing)} tensors of {type(model).__name__}: {shorten_list(missing)}; it "
            "was saved without its classifier: name the fine-tuned model"
        )
    loaded: nn.Module = model.float()
    return loaded


def _class_names(id2label: dict[int, str], name: str) -> tuple[tuple[str, ...] | None, str | None]:
    """The class names of a config.json: WordNet ids for ImageNet's labels; None for placeholders, with no names."""
    unnamed = "its classes are known by number only"
    if sorted(id2label) != list(range(len(id2label))):
        found, wanted = f"{min(id2label)} to {max(id2label)}", f"0 to {len(id2label) - 1}"
        return None, f"{name}: its id2label numbers classes {found}, wanted {wanted}; {unnamed}"
    labels = [str(id2label[number]) for number in range(len(id2label))]
    if recognised := recognise_imagenet(labels):
        return recognised, None
    if all(re.fullmatch(r"LABEL_\d+", label) for label in labels):
        return None, None
    try:
        return check_names(labels, f"{name}: its id2label"), None
    except ConfigError as error:
        return None, f"{error}; {unnamed}"
