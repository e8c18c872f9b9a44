"""Commands run as users run them: in processes of their own."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]

# One thread: sums of floats come out the same whatever else runs, and two processes do not fight for two cores.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "ACCELERATE_USE_CPU": "true",
    "CUDA_VISIBLE_DEVICES": "",
    "SOURCE_DATE_EPOCH": "1700000000",
    "PYTHONPATH": str(ROOT),
}


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, **ENVIRONMENT, **more}


def python(
    *argv: str | Path, cwd: Path, check: bool = True, env: Mapping[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, argv)],
        cwd=cwd,
        env=environment(**(env or {})),
        check=check,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def torchrun(
    processes: int,
    argv: Sequence[str | Path],
    cwd: Path,
    env: Mapping[str, str] | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return python(*launcher, *argv, cwd=cwd, env=env, check=check)


def tree_bytes(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
