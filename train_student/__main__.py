"""`train-student`, `accelerate launch -m train_student`, and what train_student.py calls."""

from collections.abc import Sequence

from pld.process.stopping import Stopping


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status of the command; `argv` is the command line's if it is not given."""
    with Stopping("nothing was trained since it started") as stopping:
        # These take seconds, in which signals are handled already.
        from pld.buffer_pool import keep_freed_memory
        from pld.config import run
        from train_student.run.train import main as train_main

        keep_freed_memory()
        return run(lambda words: train_main(words, stopping), argv)


if __name__ == "__main__":
    raise SystemExit(main())
