"""Teachers: what `--teacher` may name, how one is built, and what identifies it."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import timm
import torch
from jaxtyping import Float, Int, UInt8
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn

from pld.class_names import inferred_names, label_names
from pld.errors import TeacherError
from pld.images import Source
from pld.images.preprocessing import Preprocessing
from pld.precision import Precision, autocast
from pld.views import Interpolation, Policy, apply_view

# The paper names architectures and accuracies, not weights. Each tag is the published one nearest the paper's
# top-1 (in brackets) at the resolution of the paper's students; none is exact.
ALIASES = {
    "vit_large": "vit_large_patch16_224.augreg_in21k_ft_in1k",  # 85.9 (84.80): the only 224 px fine-tuned tag
    "vit_base": "vit_base_patch16_224.orig_in21k_ft_in1k",  # 81.8 (82.07): augreg's 84.5 is farther
    "resnet152": "resnet152.gluon_in1k",  # 79.7 (79.61): a1h has 82.8
    "mnv4_conv_large": "mobilenetv4_conv_large.e500_r256_in1k",  # 81.9 (80.83): the smaller of its two sizes
    "mnv4_hybrid_medium": "mobilenetv4_hybrid_medium.e500_r224_in1k",  # 80.4 (78.66): the only 224 px tag
    "mnv4_hybrid_large": "mobilenetv4_hybrid_large.e600_r384_in1k",  # the paper gives no top-1
}

# Prefixes by which timm loads a model's folder, with its config.json, from elsewhere.
FOLDER_PREFIXES = ("local-dir:", "hf-hub:")

_VIEWS_AT_ONCE = 64


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Teacher:
    """A frozen model, its preprocessing and its identity.

    Attributes:
        model: in evaluation mode, its parameters without gradients.
        preprocessing: what its weights were trained with.
        architecture: timm's name of the architecture.
        tag: timm's name of the weights; for weights from a file what the user's name said, else empty.
        weights_sha256: of its tensors, whatever file they came in.
        num_classes: of the model.
        precision: of its forward pass.
        class_names: of the model's classes in their order; None where they are not known.
        names_inferred: whether the names are ImageNet's because there are as many classes, and nobody states them.
        columns: the model's classes that are the dataset's, in the dataset's order; all as they are where None.
    """

    model: nn.Module
    preprocessing: Preprocessing
    architecture: str
    tag: str
    weights_sha256: str
    num_classes: int
    precision: Precision = "fp32"
    class_names: tuple[str, ...] | None = None
    names_inferred: bool = False
    columns: tuple[int, ...] | None = None

    @property
    def num_kept(self) -> int:
        """C of the logits that it gives: the dataset's classes."""
        return self.num_classes if self.columns is None else len(self.columns)

    # Not inference_mode: its tensors cannot be saved for a loss's backward pass.
    @torch.no_grad()
    def logits(self, images: UInt8[Tensor, "B 3 h w"]) -> Float[Tensor, "B C"]:
        """Its logits in float32 for uint8 images of its input size, on its device: those of the dataset's classes.

        A softmax over them is the model's own, restricted to these classes and renormalised.
        """
        return self.kept(self.model_logits(images))

    @torch.no_grad()
    def model_logits(self, images: UInt8[Tensor, "B 3 h w"]) -> Float[Tensor, "B M"]:
        """The same of all classes that the model has."""
        with autocast(images.device, self.precision):
            logits: Tensor = self.model(self.preprocessing.normalize(images))
        return logits.float()

    def kept(self, logits: Float[Tensor, "B M"]) -> Float[Tensor, "B C"]:
        """The logits of the dataset's classes, of the model's."""
        return logits if self.columns is None else logits[:, self._index(logits.device)]

    def mass_left_out(self, logits: Float[Tensor, "B M"]) -> Float[Tensor, "B"]:
        """The probability at T = 1 that the model gives to classes that the dataset does not have, of its logits."""
        if self.columns is None or len(self.columns) == self.num_classes:
            return logits.new_zeros(len(logits))
        probabilities = logits.double().softmax(dim=1)
        probabilities[:, self._index(logits.device)] = 0
        return probabilities.sum(dim=1).to(logits.dtype)

    def _index(self, device: torch.device) -> Int[Tensor, "C"]:
        assert self.columns is not None
        return _index(self.columns, device)


@functools.lru_cache(maxsize=16)
def _index(columns: tuple[int, ...], device: torch.device) -> Int[Tensor, "C"]:
    """Sent to a device once."""
    with torch.inference_mode(mode=False):
        return torch.tensor(columns, device=device)


def view_logits(
    teacher: Teacher, source: Source, rows: Sequence[int], view_index: int, policy: Policy
) -> Float[Tensor, "N C"]:
    """A model's logits for one view of some images, on the CPU.

    Args:
        teacher: a model on the CPU.
        source: the images.
        rows: which of them, at least one.
        view_index: which view of them.
        policy: how views are drawn.

    Raises:
        UndecodableImageError: an image is none; names the sample.
        DataError: it cannot be read.
    """
    size, interpolation = teacher.preprocessing.input_size, teacher.preprocessing.interpolation
    logits = []
    for first in range(0, len(rows), _VIEWS_AT_ONCE):
        views = []
        for row in rows[first : first + _VIEWS_AT_ONCE]:
            image, (view,) = source.views(row, [view_index], policy)
            views.append(apply_view(image, view, size, interpolation))
        logits.append(teacher.logits(torch.stack(views)))
    return torch.cat(logits)


def build_teacher(
    name: str, weights: str | None = None, *, precision: Precision = "fp32", device: str = "cpu"
) -> Teacher:
    """Build a teacher and load its weights.

    Args:
        name: an alias, a timm name with or without tag, `local-dir:FOLDER` (what train_student exports) or
            `hf-hub:REPO`.
        weights: a file (safetensors, or a .pth of tensors alone) in place of published weights; its number of
            classes is taken from its classifier.
        precision: of the forward pass.
        device: where it runs.

    Raises:
        TeacherError: no such model, weights that cannot be had, weights of another model, or no such device.
    """
    full_name = ALIASES.get(name, name)
    _check_known(name, full_name)
    model: Any = _from_file(full_name, Path(weights)) if weights else _published(full_name)
    model.eval().requires_grad_(False)
    try:
        model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise TeacherError(f"{full_name}: cannot run on the device {device!r}: {str(error).splitlines()[0]}") from error
    tag = full_name.partition(".")[2] if weights else model.pretrained_cfg.get("tag") or ""
    stated = label_names(model.pretrained_cfg.get("label_names"), model.num_classes, full_name)
    published = not weights and not full_name.startswith(FOLDER_PREFIXES)
    return Teacher(
        model=model,
        preprocessing=model_preprocessing(model),
        architecture=model.pretrained_cfg["architecture"],
        tag=tag,
        weights_sha256=weights_digest(model),
        num_classes=model.num_classes,
        precision=precision,
        class_names=stated or inferred_names(model.num_classes),
        names_inferred=stated is None and not published,
    )


def model_preprocessing(model: Any) -> Preprocessing:
    """What a timm model's configuration says of its input; raises TeacherError for an unsupported resize."""
    config = resolve_model_data_config(model)
    if config["interpolation"] not in get_args(Interpolation):
        raise TeacherError(f"{model.pretrained_cfg['architecture']}: wants {config['interpolation']} resizing; "
                           f"supported are {', '.join(get_args(Interpolation))}")  # fmt: skip
    return Preprocessing(
        input_size=tuple(config["input_size"][1:]),
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        crop_fraction=config["crop_pct"],
    )


def weights_digest(model: nn.Module) -> str:
    """sha256 over the names, types, shapes and bytes of a model's tensors, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_model_name(name: str) -> None:
    """Raise TeacherError, with the nearest names, unless timm can build a model of this name."""
    _check_known(name, name)


def _check_known(name: str, full_name: str) -> None:
    if full_name.startswith(FOLDER_PREFIXES):
        folder = Path(full_name.removeprefix("local-dir:"))
        if full_name.startswith("local-dir:") and not (folder / "config.json").is_file():
            raise TeacherError(f"{folder}: no config.json; wanted a model's folder, as train_student writes it")
        return
    architecture, _, tag = full_name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, sorted({*ALIASES, *timm.list_models()}), n=5, cutoff=0.5)
        raise TeacherError(f"unknown model {name!r}; nearest are {', '.join(near) or 'none'}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise TeacherError(f"{architecture} has no weights {tag!r}; it has {', '.join(tags) or 'none'}")


def _published(name: str) -> nn.Module:
    try:
        model: nn.Module = timm.create_model(name, pretrained=True)
    except Exception as error:  # hubs fail in as many ways as there are network libraries
        raise TeacherError(
            f"{name}: its weights could not be loaded: {_first_line(error)}\n"
            "Without a network, fetch them elsewhere (https://huggingface.co/timm) and name them: --weights FILE"
        ) from error
    return model


def _from_file(name: str, path: Path) -> nn.Module:
    if not path.is_file():
        raise TeacherError(f"{path}: no such file; --weights wants a .safetensors or .pth file")
    try:
        tensors = timm.models.load_state_dict(str(path), weights_only=True)
    except Exception as error:  # a damaged or hostile file fails in its parser's own way
        raise TeacherError(f"{path}: not weights alone, or damaged: {_first_line(error)}") from error
    config = timm.get_pretrained_cfg(name)
    classifier = tensors.get(f"{config.classifier if config else 'fc'}.weight")
    num_classes = None if classifier is None else len(classifier)
    model: nn.Module = timm.create_model(name, num_classes=num_classes)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise TeacherError(f"{path}: weights of another model than {name}: {_first_line(error, lines=4)}") from error
    return model


def _first_line(error: Exception, lines: int = 1) -> str:
    return "\n".join(str(error).strip().splitlines()[:lines])[:500] or type(error).__name__
