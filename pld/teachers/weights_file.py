"""Load a file of weights; recognise what it is if it holds none that can be read."""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from pld.classes.matching import shorten_list
from pld.errors import TeacherError, first_line
from pld.teachers.names import folder_prefix

_FIRST_BYTES = 1024
_PYTHON_KIND = "or write a function that returns the model: --teacher python:MODULE:FUNCTION"
_NO_TORCH = (
    f"torch does not read it; name the same model in timm's, torchvision's or transformers' form, {_PYTHON_KIND}"
)

# The first bytes of files that are no weights, and what to say of them.
_FORMS = (
    (rb"\Z", "an empty file: a copy or download of it broke off; fetch it again"),
    (rb"version https://git-lfs", "a Git LFS pointer in place of the weights; fetch them with 'git lfs pull'"),
    (
        rb"(?i)\s*<(!doctype|html|\?xml|head)",
        "a web page in place of the file; download the file itself (of the Hugging Face hub: .../resolve/main/FILE)",
    ),
    (rb"\x89HDF\r\n", f"an HDF5 file, such as TensorFlow's and Keras's .h5; {_NO_TORCH}"),
    (rb"\x08[\x01-\x20][\x12\x3a\x42]", f"an ONNX model; {_NO_TORCH}"),
    (rb"\x93NUMPY", f"a NumPy array; {_NO_TORCH}"),
    (rb"GGUF", f"a GGUF file; {_NO_TORCH}"),
    (rb"\x1f\x8b", "compressed with gzip; unpack it and name the file inside"),
    (rb"(?s).{257}ustar", "a tar; unpack it and name the file inside"),
)


def load_file(path: Path, option: str) -> Any:
    """What a .safetensors file or a .pth of torch.save holds, on the CPU; the two are told apart by their bytes.

    Args:
        path: the file.
        option: that named it, for messages.

    Raises:
        TeacherError: it is no such file, is damaged, or holds more than tensors and plain values.
    """
    _check_is_file(path, option)
    try:
        said = _describe_file(path, option)
    except OSError as error:
        raise TeacherError(f"{path}: cannot be read: {error}; correct its permissions, or copy it again") from error
    if said:
        raise TeacherError(f"{path}: {said}")
    return _load_safetensors(path) if _is_safetensors(path) else _load_pickle(path)


def _describe_file(path: Path, option: str) -> str | None:
    """What a file is, if it is a known kind that holds no readable weights, and what to do; else None."""
    with path.open("rb") as file:
        head = file.read(_FIRST_BYTES)
    if head.startswith(b"PK\x03\x04"):
        return _describe_zip(path)
    if path.suffix == ".onnx":
        return f"an ONNX model; {_NO_TORCH}"
    if re.match(rb"\s*[{\[]", head):
        folder = _advise_folder(path.parent, option)
        return f"a JSON file; name the weights beside it (.safetensors or .pth), or {folder}"
    if _is_safetensors(path) and _is_checkpoint(path):
        return f"a checkpoint of train_student; {_advise_run(path, option)}"
    return next((said for pattern, said in _FORMS if re.match(pattern, head)), None)


def _advise_folder(folder: Path, option: str) -> str:
    """How to name a model's folder in place of a file in it."""
    if option == "--init_from":
        return f"its folder: {option} {folder}"
    prefix = folder_prefix(folder)
    return f"its folder as the model, {prefix}{folder}, without {option}" if prefix else "a model's folder"


def _advise_run(checkpoint: Path, option: str) -> str:
    """How to name the model that a run exports, in place of one of its checkpoints."""
    run = checkpoint.parent.parent
    place = str(run) if (run / "config.yaml").is_file() else "RUN"
    if option == "--init_from":
        return f"name its run's folder: {option} {place}"
    return f"name the model that its run exports, local-dir:{place}/model, without {option}"


def _check_is_file(path: Path, option: str) -> None:
    """Raise TeacherError unless this is a file; a model's folder is told how to be named."""
    if path.is_file():
        return
    if not path.is_dir():
        raise TeacherError(f"{path}: no such file; {option} wants a .safetensors or .pth file")
    if (path / "saved_model.pb").exists():
        raise TeacherError(f"{path}: a SavedModel of TensorFlow; {_NO_TORCH}")
    if prefix := folder_prefix(path):
        raise TeacherError(f"{path}: a model's folder, not a file; give it without {option}: --teacher {prefix}{path}")
    raise TeacherError(f"{path}: a folder; {option} wants a .safetensors or .pth file")


def _describe_zip(path: Path) -> str | None:
    """What a zip is that torch.save did not write."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None
    if any(name.endswith("constants.pkl") for name in names) and any("/code/" in name for name in names):
        return (
            "a TorchScript program, which has its own code; load it by a function of yours, "
            f"torch.jit.load({str(path)!r}): --teacher python:MODULE:FUNCTION"
        )
    if any(name.endswith("data.pkl") for name in names):
        return None
    if any(name.endswith(".h5") for name in names):
        return f"a Keras archive; {_NO_TORCH}"
    if names and all(name.endswith(".npy") for name in names):
        return f"NumPy arrays (.npz), such as JAX's weights; {_NO_TORCH}"
    return f"a ZIP archive of {len(names)} files, not of torch.save; unpack it and name the weights inside"


def _is_safetensors(path: Path) -> bool:
    """Whether the file begins with the length of a header and the header's brace."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < 2**32


def _is_checkpoint(path: Path) -> bool:
    """Whether train_student wrote this safetensors file, for going on with a run."""
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            return str((file.metadata() or {}).get("format")).startswith("pld-checkpoint/")
    except Exception:  # damaged; reading it says how
        return False


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        loaded: dict[str, Tensor] = safetensors.torch.load_file(str(path))
    except Exception as error:  # a damaged or hostile file fails in its parser's own way
        raise TeacherError(f"{path}: damaged safetensors: {first_line(error)}; copy or download it again") from error
    return loaded


def _load_pickle(path: Path) -> Any:
    try:
        # Trainers keep their arguments in a Namespace: attributes alone, so that it runs nothing.
        # A file object: of a path, torch would believe the extension.
        with torch.serialization.safe_globals([argparse.Namespace]), path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # likewise
        refused = _refused_classes(path, error)
        if not refused:
            raise TeacherError(
                f"{path}: damaged, or no file of torch.save: {first_line(error)}; copy or download it again"
            ) from error
        command = (
            f"python -c \"import torch; c = torch.load('{path}', weights_only=False); "
            "t = lambda v: isinstance(v, torch.Tensor) or isinstance(v, dict) and all(map(t, v.values())); "
            "w = c.state_dict() if hasattr(c, 'state_dict') else {k: v for k, v in c.items() if t(v)}; "
            f"torch.save(w, '{path.with_suffix('')}-weights.pth')\""
        )
        raise TeacherError(
            f"{path}: not only weights: a pickle of a whole model or of a trainer's objects; loading it would run "
            f"their code ({shorten_list(refused)}). If you trust it, take the weights out once: {command}"
        ) from error


def _refused_classes(path: Path, error: Exception) -> list[str]:
    """The classes and functions in a pickle, for which it was refused."""
    if not isinstance(error, pickle.UnpicklingError):
        return []
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except Exception:  # the older form of files, or a damaged one
        return re.findall(r"GLOBAL ([\w.]+)", str(error))[:1]
