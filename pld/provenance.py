"""Where a result comes from: versions, machine, date, command and commit."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from pld.plugins import loaded_plugins

_LIBRARIES = ("torch", "torchvision", "timm", "transformers")
_DISTRIBUTIONS = ("pld-distill", *_LIBRARIES, "zarr", "numcodecs", "numpy", "pillow", "simplejpeg")


def provenance() -> dict[str, Any]:
    """Plain JSON about this process, with the plug-ins that it has loaded.

    The date is SOURCE_DATE_EPOCH's where that is set, for reproducible bytes.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.datetime.now(datetime.UTC)
    date = datetime.datetime.fromtimestamp(int(epoch), datetime.UTC) if epoch else now
    return {
        "date": date.isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "git_commit": git_commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores, {_accelerator()}",
        "versions": {"python": platform.python_version(), **_versions()},
        **({"plugins": plugins} if (plugins := loaded_plugins()) else {}),
    }


def git_commit() -> str | None:
    """The commit of the working directory, with `+changes` where it has uncommitted ones; None outside a repository."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"],
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()


def _versions() -> dict[str, str]:
    found = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _accelerator() -> str:
    if not torch.cuda.is_available():
        return "no GPU"
    return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
