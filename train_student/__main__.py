"""`train-student`, `accelerate launch -m train_student`, and what train_student.py calls."""

import atexit
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from pld.logs import showing_logs
from pld.process.stopping import Stopping


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status of the command; `argv` is the command line's if it is not given. A launched process ends in here."""
    status = 1
    try:
        status = _run(argv)
    except Exception:
        if not _is_launched():
            raise
        sys.excepthook(*sys.exc_info())
    if _is_launched():
        _end(status)
    return status


def _run(argv: Sequence[str] | None) -> int:
    with showing_logs(), Stopping("nothing was trained since it started") as stopping:
        # These take seconds, in which signals are handled already.
        from pld.buffer_pool import keep_freed_memory
        from pld.config import run
        from train_student.run.train import main as train_main

        keep_freed_memory()
        return run(lambda words: train_main(words, stopping), argv)


def _is_launched() -> bool:
    """Whether it may exchange tensors with others; torchrun has process groups of one process, too."""
    return "RANK" in os.environ


def _end(status: int) -> NoReturn:
    """End this process, but leave the interpreter whole.

    The threads of torch's process group may still hold the last tensors that were exchanged. They let go of them with
    the interpreter's lock, and one that waits for it while the interpreter is taken apart aborts the process: a
    finished run would exit with 134.
    """
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:  # whoever read the output may be gone
        os._exit(status)


if __name__ == "__main__":
    raise SystemExit(main())
