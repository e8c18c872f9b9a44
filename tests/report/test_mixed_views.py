"""`pld data --show` and the store's page show views as they are trained on, with the labels of both images."""

import numpy as np
import pytest
from PIL import Image

from pld.cli.main import main
from pld.images import open_source
from pld.join.mixing import choose_partners, plan_mixing
from pld.report.samples import draw_samples
from pld.report.store_page import render_store_page
from pld.report.view_sheet import caption, draw_sheet
from pld.store import open_store
from pld.views.policy_text import parse_policy
from pld.views.preprocessing import Preprocessing
from tests.loading.mixed import planned_view
from tests.making import make_dataset, make_store, make_teacher, shard_members, write_tar

POLICY = "rand-m9,erase-0.5,mixup-0.8,cutmix-1.0"
SIDE = Preprocessing(input_size=(192, 192))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    make_dataset(folder / "data", (30, 11))
    make_teacher(folder / "teacher")
    return folder


def pld(monkeypatch, *argv) -> int:
    monkeypatch.setattr("sys.argv", ["pld", *map(str, argv)])
    return main()


def test_a_sheet_shows_what_is_trained_on(world, tmp_path, monkeypatch, capsys):
    out = tmp_path / "sheet.png"
    shown = pld(monkeypatch, "data", world / "data", "--show", 3, "--views", 2, "--policy", POLICY, "--out", out)
    assert shown == 0
    assert f"views of 3 images: {out}" in capsys.readouterr().out
    source = open_source(str(world / "data"))
    policy = choose_partners(parse_policy(POLICY, source.policy), source)
    plan = plan_mixing(source, policy)
    sheet = np.array(Image.open(out))
    rows = np.random.default_rng(0).permutation(41)[:3].tolist()
    for place, row in enumerate(rows):
        for view in range(2):
            top, left = 2 * 12 + 18 + place * (192 + 3 * 18 + 12), 12 + view * (192 + 12)
            wanted = planned_view(source, row, view, policy, plan, SIDE).permute(1, 2, 0).numpy()
            assert np.array_equal(sheet[top : top + 192, left : left + 192], wanted)
            assert (sheet[top + 192 : top + 192 + 3 * 18, left : left + 192] < 128).any(), "something is written below"


def test_what_is_written_below_a_view(world):
    source = open_source(str(world / "data"))
    plan = plan_mixing(source, parse_policy(POLICY, source.policy))
    mixing = plan.mixing(0, np.array([4]))[0, ...]
    partner, share = int(mixing.partners), float(mixing.shares)
    assert caption(source, 4, mixing) == [
        f"{share:.2f} class 4",
        f"{1 - share:.2f} class {source.label(partner)}",
        "train-0004",
    ]
    assert caption(source, 4, None) == ["class 4", "train-0004"]
    unlabelled = open_source(str(world / "data"), unlabelled=True)
    assert caption(unlabelled, 4, None) == ["train-0004"]
    assert caption(unlabelled, 4, mixing)[1] == f"{1 - share:.2f} {unlabelled.key(partner)}"


def test_a_sheet_of_long_names_and_of_few_images(tmp_path):
    members = {f"{'a-very-long-key-' * 20}{name}": data for name, data in shard_members(0, 2).items()}
    source = open_source(str(write_tar(tmp_path / "train-0000.tar", members)))
    sheet = draw_sheet(source, source.policy, None, "title " * 200, num_images=9, num_views=1)
    assert sheet.size == (192 + 24, 2 * (192 + 36 + 12) + 42)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--views", "3"], "--views applies only to the views that are drawn: add --show"),
        (["--policy", "deit"], "--policy applies only"),
        (["--show", "2", "--out", "sheet.pdf"], "--out sheet.pdf: wanted the name of a PNG file, such as views.png"),
        (["--show", "2", "--policy", "mixupp-1"], "is mixup meant?"),
        (["--show", "2", "--out", "missing/sheet.png"], "missing/sheet.png: cannot be written: No such file"),
    ],
)
def test_what_cannot_be_shown(world, tmp_path, monkeypatch, capsys, argv, words):
    monkeypatch.chdir(tmp_path)
    assert pld(monkeypatch, "data", world / "data", *argv) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_stores_page_names_both_labels_and_the_share(world):
    make_store(world, "mixed", policy=POLICY, views=1, k=5)
    store, source = open_store(str(world / "mixed")), open_source(str(world / "data"))
    samples = draw_samples(store, source, 6)
    assert all(sample.other is not None and 0.5 <= sample.share < 1 for sample in samples)
    page = render_store_page(store, samples)
    for sample in samples:
        assert f"{sample.share:.2f} {sample.label} + {1 - sample.share:.2f} {sample.other}" in page
    make_store(world, "plain", views=1, k=5)
    plain = draw_samples(open_store(str(world / "plain")), source, 6)
    assert [(sample.other, sample.share) for sample in plain] == [(None, 1.0)] * 6
    assert "Views are mixed" not in render_store_page(open_store(str(world / "plain")), plain)
