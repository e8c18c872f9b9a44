"""A digest of the source code that defines a user's own teacher."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

# Packages, and Python itself, whose code is not a teacher's own; their versions are in a store's provenance.
_LIBRARIES = sys.stdlib_module_names | {"torch", "torchvision", "timm", "transformers"}


def code_digest(factory_modules: Iterable[str], model: nn.Module) -> str:
    """sha256 over the names and files of the modules that define a teacher, sorted by name.

    Besides the factory's these are the modules of the classes of all of the model's modules and of their base classes;
    torch's, torchvision's, timm's, transformers' and Python's own are left out. Of TorchScript programs it is their
    code. What this code imports or reads from files besides is not covered.

    Args:
        factory_modules: names of the modules that the factory is from.
        model: what it returned.
    """
    digest = hashlib.sha256()
    modules = {*factory_modules, *(kind.__module__ for module in model.modules() for kind in type(module).__mro__)}
    for name in sorted(name for name in modules if name.partition(".")[0] not in _LIBRARIES):
        digest.update(f"{name}\0{hashlib.sha256(_read_file(name)).hexdigest()}\n".encode())
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            digest.update(f"{name}\0{_program(module)}\n".encode())
    return digest.hexdigest()


def _program(module: Any) -> str:
    """A TorchScript module's code; empty for one without a forward pass, such as a list of layers."""
    try:
        return str(module.code)
    except (RuntimeError, AttributeError):
        return ""


def _read_file(module_name: str) -> bytes:
    """The bytes of a module's file; empty for one that has none, such as those built into Python."""
    path = getattr(sys.modules.get(module_name), "__file__", None)
    return Path(path).read_bytes() if path else b""
