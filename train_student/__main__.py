"""`train-student`, `accelerate launch -m train_student`, and what train_student.py calls."""

from pld.config import run
from pld.reused_memory import keep_freed_memory
from train_student.train import main as train_main


def main() -> int:
    """Exit status of the command."""
    keep_freed_memory()
    return run(train_main)


if __name__ == "__main__":
    raise SystemExit(main())
