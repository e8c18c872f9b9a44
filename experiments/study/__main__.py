"""`python -m experiments.study`: what `make study` runs."""

from experiments.study.drive import main
from pld.config import run

if __name__ == "__main__":
    raise SystemExit(run(main))
