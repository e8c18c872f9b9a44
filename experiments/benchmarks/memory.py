"""Bytes that PyTorch allocates on the CPU while a function runs."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch


def peak_bytes(function: Callable[[], object]) -> int:
    """The most bytes held at once, beyond those held before; what the function returns counts."""
    function()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        kept = function()
    with tempfile.TemporaryDirectory() as folder:
        profile.export_chrome_trace(str(Path(folder) / "trace.json"))
        trace = json.loads((Path(folder) / "trace.json").read_text())
    del kept
    changes = sorted(
        (event["ts"], event["args"]["Bytes"]) for event in trace["traceEvents"] if event.get("name") == "[memory]"
    )
    held = peak = 0
    for _, num_bytes in changes:
        held += num_bytes
        peak = max(peak, held)
    return peak
