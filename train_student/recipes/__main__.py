"""`make recipes`: print the table of the paper's recipes; with --write, make their YAML files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pld.config import run
from pld.files import writing
from train_student.config import RECIPES
from train_student.recipes.table import paper_recipes
from train_student.recipes.text import as_yaml, listing


def main(argv: Sequence[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m train_student.recipes", description=__doc__)
    parser.add_argument("--write", action="store_true", help="make the YAML files anew, in place of printing the table")
    if parser.parse_args(list(argv)).write:
        write(RECIPES)
    else:
        print(listing(paper_recipes()))


def write(folder: Path) -> None:
    """Make `folder`/paper and /methods hold the recipes' files and no other; raises OutputError on a failure."""
    texts = {folder / f"{recipe.name}.yaml": as_yaml(recipe) for recipe in paper_recipes()}
    with writing(folder):
        for stale in {path for name in ("paper", "methods") for path in (folder / name).glob("*.yaml")} - set(texts):
            stale.unlink()
        for path, text in texts.items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)


if __name__ == "__main__":
    raise SystemExit(run(main))
