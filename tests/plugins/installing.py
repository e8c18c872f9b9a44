"""What installing a package leaves in a folder, without pip: its modules, and a dist-info with its entry points."""

import shutil
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path

from tests.processes import ROOT

EXAMPLE = ROOT / "docs" / "examples" / "plugin"


def install(site: Path, points: Mapping[str, str], modules: Mapping[str, str], name: str = "some-plugin") -> Path:
    """Install a distribution of single modules; `points` are its entry points of the group pld.plugins."""
    for module, text in modules.items():
        (site / f"{module}.py").write_text(textwrap.dedent(text))
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{point} = {value}" for point, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[pld.plugins]", *lines, ""]))
    return site


def install_example(site: Path) -> Path:
    """Install docs/examples/plugin with the entry points of its pyproject.toml."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    shutil.copytree(EXAMPLE / "pld_example", site / "pld_example", ignore=shutil.ignore_patterns("__pycache__"))
    return install(site, project["entry-points"]["pld.plugins"], {}, project["name"])
