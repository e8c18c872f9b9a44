"""`train-student`, `accelerate launch -m train_student`, and what train_student.py calls."""

from pld.buffer_pool import keep_freed_memory
from pld.config import run
from train_student.run.train import main as train_main


def main() -> int:
    """Exit status of the command."""
    keep_freed_memory()
    return run(train_main)


if __name__ == "__main__":
    raise SystemExit(main())
