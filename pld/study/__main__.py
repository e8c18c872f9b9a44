"""`python -m pld.study`: what `make study` runs."""

from pld.config import run
from pld.study.drive import main

if __name__ == "__main__":
    raise SystemExit(run(main))
