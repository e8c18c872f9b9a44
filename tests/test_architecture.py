"""docs/architecture.md is the tree as it is: its rooms, its layers, its ten changes; no circles, no large rooms."""

import re
import tomllib
from pathlib import Path

import grimp
import pytest

from tests.processes import ROOT

PACKAGES = ("pld", "cache_teacher", "train_student", "experiments")
PAGE = (ROOT / "docs" / "architecture.md").read_text()
MOST_MODULES = 14


def rooms(*roots):
    return sorted({path.parent for root in roots for path in (ROOT / root).rglob("*.py")})


def relative(path):
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph(*PACKAGES, cache_dir=None)


def circles(imports):
    """The modules that can be reached from themselves; depth first."""
    found = set()
    for start in imports:
        reached, to_visit = set(), list(imports[start])
        while to_visit:
            module = to_visit.pop()
            if module not in reached:
                reached.add(module)
                to_visit += imports[module]
        if start in reached:
            found.add(start)
    return found


def test_no_module_imports_itself_around_a_circle(graph):
    assert circles({"a": ["b"], "b": ["a"], "c": ["a"]}) == {"a", "b"}
    imports = {module: sorted(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    assert circles(imports) == set()


def test_no_room_imports_itself_around_a_circle(graph):
    """Rooms inside of each other are one here: a room's own modules may use its inner rooms, and those its modules."""
    rooms_of = {module: module.rpartition(".")[0] for module in graph.modules if not graph.find_children(module)}
    imports = {room: set() for room in rooms_of.values()}
    for module, room in rooms_of.items():
        for imported in graph.find_modules_directly_imported_by(module) & rooms_of.keys():
            other = rooms_of[imported]
            if not f"{room}.".startswith(f"{other}.") and not f"{other}.".startswith(f"{room}."):
                imports[room].add(other)
    assert circles(imports) == set()


@pytest.mark.parametrize("room", rooms(*PACKAGES, "tests"), ids=relative)
def test_rooms_are_small(room):
    assert len(list(room.glob("*.py"))) <= MOST_MODULES


def test_the_page_has_each_rooms_first_line():
    listed = re.findall(r"^\| `([\w/]+)/` \| (.*) \|$", PAGE, re.MULTILINE)
    found = [
        (relative(room), (room / "__init__.py").read_text().split("\n")[0].strip('"')) for room in rooms(*PACKAGES)
    ]
    assert listed == found


def test_the_drawing_shows_the_rooms():
    drawing = (ROOT / "docs" / "drawings" / "rooms.svg").read_text()
    for room in (*PACKAGES, *(path.name for path in rooms("pld") if path.parent == ROOT / "pld")):
        assert f">{room}<" in drawing, room


def test_the_pages_layers_are_the_contracts():
    """Each `a > b | c` on the page is a layers contract, and each contract is on the page."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    checked = {tuple(contract["layers"]) for contract in contracts if contract["type"] == "layers"}
    block = re.search(r"^```layers\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert block
    written = set()
    for line in block[1].splitlines():
        package, _, layers = line.partition(": ")
        names = [[name.strip() for name in layer.split("|")] for layer in layers.split(">")]
        written.add(tuple(" | ".join(f"{package}.{name}" for name in layer) for layer in names))
    assert written == checked


def test_the_ten_changes_lead_somewhere():
    section = PAGE.partition("## Where ten likely changes go")[2].partition("\n## ")[0]
    changes = re.findall(r"^\| ([^|]+) \| (.*) \|$", section, re.MULTILINE)
    assert len([change for change in changes if change[0] not in ("a change", "---")]) == 10
    for _, places in changes:
        for place in re.findall(r"`([\w/.]+)`", places):
            if "/" in place:
                assert (ROOT / place).exists(), place


def test_modules_say_what_they_are():
    for room in rooms(*PACKAGES):
        for path in sorted(room.glob("*.py")):
            assert path.read_text().startswith('"""'), path


def test_public_names_stay():
    """design's list of what other programs import."""
    from pld.images import epoch_order, open_source
    from pld.losses import (
        PLDLoss,
        cross_entropy_loss,
        dist_loss,
        dkd_loss,
        gradient_error_bound,
        kd_loss,
        listmle_loss,
        plackett_luce_nll,
        pld_loss,
        plistmle_loss,
        standardize_logits,
    )
    from pld.signals import TopK
    from pld.store import LogitTable, Store, StoreWriter, open_store
    from pld.views import Fixed, RandomResizedCrop, View, apply_view, draw_view

    names = (epoch_order, open_source, PLDLoss, cross_entropy_loss, dist_loss, dkd_loss, gradient_error_bound, kd_loss)
    names += (listmle_loss, plackett_luce_nll, pld_loss, plistmle_loss, standardize_logits, TopK, LogitTable, Store)
    names += (StoreWriter, open_store, Fixed, RandomResizedCrop, View, apply_view, draw_view)
    assert all(map(callable, names))


def test_the_top_level_is_what_readme_names():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == {*PACKAGES, "tests"}
    assert Path(ROOT / "train_student.py").is_file()
