"""Precisions of a model's forward pass: autocast, and the fastest one on this machine."""

from __future__ import annotations

import contextlib
from typing import Any, Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[Any]:
    """Autocast to a precision; fp32 switches it off."""
    return torch.autocast(device.type, dtype=_AUTOCAST.get(precision), enabled=precision in _AUTOCAST)


def fast_precision() -> Precision:
    """bf16 where a GPU or the CPU computes in it, else fp32: what a CPU only emulates is several times slower."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # Older versions of PyTorch do not say.
    can: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16" if can.get("amx_bf16") or can.get("avx512_bf16") else "fp32"
