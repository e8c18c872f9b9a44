"""The "triton" backend: its cases under Triton's interpreter, what it refuses, and that a GPU's compiler accepts it."""

import importlib.util
import os
import re

import pytest
import torch

from pld.errors import ConfigError
from pld.losses import build_loss, pld_loss
from tests.processes import ROOT, python

GOOD = (torch.zeros(2, 5), torch.zeros(2, 5), torch.tensor([0, 1]))
needs_triton = pytest.mark.skipif(
    not importlib.util.find_spec("triton"), reason="triton has no wheel for this platform"
)


@needs_triton
@pytest.mark.long
@pytest.mark.parametrize("cases", ["not long", "long"])
def test_the_cases_under_the_interpreter(cases):
    # Triton reads the variable when it is imported, which in this process may have happened.
    argv = ("-m", "pytest", "-m", cases, "tests/losses/plackett_luce/triton_cases.py")
    result = python(*argv, cwd=ROOT, check=False, env={"TRITON_INTERPRET": "1"}, timeout=1500)
    assert result.returncode == 0, result.stdout + result.stderr


def test_without_triton_only_the_backend_is_missing(tmp_path):
    script = """
import sys
sys.modules["triton"] = None  # what import finds where it is not installed
import torch
from pld.errors import ConfigError
from pld.losses import pld_loss
arguments = torch.zeros(2, 5), torch.zeros(2, 5), torch.tensor([0, 1])
pld_loss(*arguments)
try:
    pld_loss(*arguments, backend="triton")
except ConfigError as error:
    print(error)
"""
    printed = python("-c", script, cwd=tmp_path).stdout
    assert "triton is not installed; pip install '.[triton]' in a clone of pld-distill (Linux), or use" in printed


@needs_triton
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter takes CPU tensors")
def test_cpu_tensors_are_refused():
    with pytest.raises(ConfigError, match=r"found tensors on cpu, wanted a GPU; .*TRITON_INTERPRET=1"):
        pld_loss(*GOOD, backend="triton")


def test_other_backends_are_refused():
    with pytest.raises(ConfigError, match='pld_loss: backend = \'cuda\', wanted "torch" or "triton"'):
        build_loss("pld", backend="cuda")


SIGNATURE = {"index": "*i64", "valid": "*i1", "weight": "*fp32", "rest_weight": "*fp32", "loss": "*fp32"}


@needs_triton
@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_gpu_compiler_accepts_it_and_reads_a_row_once(architecture, dtype, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from triton import compile as compile_kernel
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from pld.losses.plackett_luce.triton_rows import _row

    constants = {"C": 1000, "R": 51, "RANKS": 64, "WORDS": 32, "UNIFORM": True}
    source = ASTSource(
        _row,
        {"logits": f"*{dtype}", **SIGNATURE, "grad": f"*{dtype}"} | dict.fromkeys(constants, "constexpr"),
        constants,
        {(i,): [["tt.divisibility", 16]] for i in range(len(SIGNATURE) + 2)},
    )
    ptx = compile_kernel(source, target=GPUTarget("cuda", architecture, 32)).asm["ptx"]
    vectors = {op: len(re.findall(rf"{op}\.global\S*\.v4", ptx)) for op in ("ld", "st")}
    # 1024 places over 4 warps: vectors of 16 bytes, each read and written once.
    assert vectors == dict.fromkeys(("ld", "st"), {"fp32": 2, "bf16": 1}[dtype])
    # The listed classes' gradient is stored after a barrier that follows the row's.
    assert re.search(r"st\.global\S*\.v4[^\n]*\n(?:(?!st\.global)[^\n]*\n)*?[^\n]*bar\.sync", ptx)
