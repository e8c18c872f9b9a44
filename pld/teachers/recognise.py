"""Recognise what a file or folder is that was given as weights and holds none that can be read."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from pld.errors import TeacherError
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
    (rb"\s*[{\[]", "a JSON file; name the weights beside it (.safetensors or .pth), or their folder with --teacher"),
)


def describe_file(path: Path) -> str | None:
    """What a file is, if it is a known kind that holds no readable weights, and what to do; else None."""
    with path.open("rb") as file:
        head = file.read(_FIRST_BYTES)
    if head.startswith(b"PK\x03\x04"):
        return _describe_zip(path)
    if path.suffix == ".onnx":
        return f"an ONNX model; {_NO_TORCH}"
    return next((said for pattern, said in _FORMS if re.match(pattern, head)), None)


def check_is_file(path: Path, option: str) -> None:
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
