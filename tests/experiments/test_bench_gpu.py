"""`bench_gpu` on a CPU, as far as it goes: it must work the first time where there is a GPU."""

import importlib.util
import json

import pytest
import torch

from experiments.benchmarks import bench_gpu
from experiments.benchmarks.gpu import decoding, step
from pld.errors import ConfigError
from tests.processes import ROOT, python

# The Triton kernel interpreted, no shape checks as they do not compile: in a process of its own.
REHEARSAL = """
import sys, torch
from experiments.benchmarks.bench_gpu import bench
from experiments.benchmarks.gpu.checks import checks
from experiments.benchmarks.loss_steps import Size

def broken():
    raise AssertionError("on purpose")

cpu, kept = torch.device("cpu"), sys.argv[1:]
every_check = [c for c in checks(cpu, "aot_eager", rows=4, classes=24, k=5) if not kept or c[0].startswith(tuple(kept))]
every_check.append(("broken", broken))
sizes = [Size(2, 24, 5, dtype) for dtype in (torch.float32, torch.bfloat16)]
sys.exit(bench(cpu, every_check, sizes, compiler="aot_eager", rounds=4, least_seconds=1e-4))
"""


@pytest.mark.long
@pytest.mark.skipif(not importlib.util.find_spec("triton"), reason="triton has no wheel for this platform")
@pytest.mark.parametrize("kept", [["pld, uniform", "dist"], pytest.param([], marks=pytest.mark.long)])
def test_a_rehearsal_on_a_cpu(kept):
    result = python("-c", REHEARSAL, *kept, cwd=ROOT, check=False, env={"TRITON_INTERPRET": "1"})
    line = json.loads(result.stdout.splitlines()[-1])
    assert line["failed"] == ["broken"], result.stdout + result.stderr
    assert "FAILED broken: AssertionError: on purpose" in result.stdout
    assert result.returncode == 1
    assert [size["size"] for size in line["sizes"]] == [f"N=2 C=24 k=5 {dtype}" for dtype in ("float32", "bfloat16")]
    for size in line["sizes"]:
        assert len(size["steps"]) == 10
        assert all(step["us"] > 0 and step["us_device"] > 0 for step in size["steps"].values())
        assert size["steps"]["cross entropy"]["cost_ce"] == size["steps"]["device copy"]["x_floor"] == 1


def test_the_step_that_may_not_wait(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    step.step_without_waiting()
    assert modes == ["default", "default"] * 3 + ["error", "default"] * 3


def test_decoding_is_checked_and_timed(capsys):
    """On a CPU, which torchvision decodes on too."""
    cpu = torch.device("cpu")
    named = dict(decoding.decoding_checks(cpu))
    with pytest.raises(ConfigError, match="this is cpu"):
        named.pop("nvJPEG decodes here")()
    for check in named.values():
        check()
    assert decoding.images_per_second(cpu, batches=1, rounds=2).median > 0
    assert "images/s in batches of 64" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
def test_without_a_gpu_it_says_so(capsys):
    assert bench_gpu.main() == 2
    assert capsys.readouterr().out == "bench-gpu: no GPU here, nothing to check or to time\n"


def test_a_wrong_loss_is_found():
    from experiments.benchmarks.gpu.checks import hold, make_batch
    from pld.losses import build_loss

    batch = make_batch(4, 24, 5, torch.float32)
    exact = build_loss("pld")
    hold(exact, exact, batch, torch.device("cpu"))
    with pytest.raises(AssertionError, match="loss off by"):
        hold(lambda *a, **k: exact(*a, **k) * 1.0001, exact, batch, torch.device("cpu"))
    with pytest.raises(AssertionError, match="gradient off by"):
        hold(lambda s, *a, **k: exact(s, *a, **k) + (s - s.detach()).sum(1) * 1e-3, exact, batch, torch.device("cpu"))
