"""What the console says of an epoch, and what it suggests."""

import argparse
import dataclasses
import itertools
import re

import pytest

from pld.cli import data as pld_data
from pld.options import as_flat
from train_student.config import TrainConfig
from train_student.loop.epoch_lines import Circumstances, epoch_lines, suggest
from train_student.loop.epoch_times import PARTS

CONFIG = TrainConfig.from_flat(data="glyphs", store="store", epochs=90)
USUAL = Circumstances(config=CONFIG, idle_cores=0, has_boxes=True, has_pixels=True)
FIGURES = {"loss": 2.31, "images_per_second": 1234.4, "time/stepping": 0.97, "time/reading": 0.02, "time/saving": 0.01}


def lines(figures, seconds=None, **more):
    return epoch_lines({**FIGURES, **figures}, (), 3, 0.00123, seconds, dataclasses.replace(USUAL, **more))


def test_one_line_has_the_figures():
    assert lines({}) == ["epoch 3/90: loss 2.310, 1,234 img/s, lr 0.00123; time: stepping 97 %, reading 2 %"]
    validated = {"loss/label": 0.912, "loss/teacher": 1.398, "top1": 45.2, "top5": 71.02}
    assert lines(validated, 4321.0) == [
        "epoch 3/90: loss 2.310 (label 0.912, teacher 1.398), top-1 45.20 %, top-5 71.02 %, 1,234 img/s, lr 0.00123; "
        "time: stepping 97 %, reading 2 %; 4,321 s in all"
    ]


def test_one_suggestion_is_behind_it():
    *_, line, suggestion = lines({"time/stepping": 0.8, "time/decoding": 0.2}, idle_cores=4)
    assert line.endswith("time: stepping 80 %, decoding 20 %, reading 2 %")
    assert suggestion == (
        "decoding took 20 % of the time: raise --workers (now 2); 4 cores are idle for each training process"
    )


def said(shares, **more):
    return suggest(shares, dataclasses.replace(USUAL, **more))


def test_the_largest_part_beside_the_steps_is_named():
    assert said({"stepping": 0.95, "reading": 0.05}) is None
    assert said({"stepping": 0.5, "moving": 0.5}) is None
    # Together they are what steps wait for.
    assert said({"reading": 0.04, "decoding": 0.06, "cutting": 0.02}).startswith("decoding took 6 % ")
    assert said({"decoding": 0.2, "validating": 0.3}).startswith("validating took 30 % of the time: raise --eval_every")
    last = TrainConfig.from_flat(data="glyphs", store="store", epochs=3, eval_every=3)
    assert said({"decoding": 0.2, "validating": 0.3}, config=last).startswith("decoding took 20 % ")


def test_what_helps_depends_on_the_machine():
    of = {part: {part: 0.2} for part in PARTS}
    assert "--longest_side" in said(of["decoding"])
    assert "C compiler" in said(of["decoding"], has_boxes=False)
    assert "raise --workers (now 2); 1 core is idle" in said(of["decoding"], has_boxes=False, idle_cores=1)
    assert "--workers" in said(of["cutting"], idle_cores=1)
    assert "--image_size" in said(of["cutting"], has_pixels=False)
    assert "C compiler" in said(of["cutting"], has_pixels=False, has_steps=True)
    assert "--policy" in said(of["cutting"], has_steps=True)
    assert "--checkpoint_minutes (now 15)" in said(of["saving"])
    steps = TrainConfig.from_flat(data="glyphs", store="store", checkpoint_steps=10)
    assert "--checkpoint_steps (now 10)" in said(of["saving"], config=steps)


def test_every_option_that_is_named_exists():
    parser = argparse.ArgumentParser()
    pld_data.add_arguments(parser)
    known = {f"--{name}" for name in as_flat(CONFIG)}
    known |= {option for action in parser._actions for option in action.option_strings}
    found = set()
    yes_or_no = (False, True)
    for part, idle, boxes, pixels, steps in itertools.product([*PARTS, "teacher"], (0, 2), *[yes_or_no] * 3):
        text = said({part: 0.9}, idle_cores=idle, has_boxes=boxes, has_pixels=pixels, has_steps=steps)
        assert text is None or "\n" not in text
        found |= set(re.findall(r"--\w+", text or ""))
    assert len(found) >= 8
    assert found <= known


@pytest.mark.parametrize(("num", "named"), [(0, ""), (2, " (a, b)"), (4, " (a, b, c, ...)")])
def test_broken_images_are_named(num, named):
    figures = {**FIGURES, "bad_images": num, "val_bad_images": num}
    said = epoch_lines(figures, list("abcd")[:num], 3, 0.1, None, USUAL)
    assert len(said) == (3 if num else 1)
    assert said[-1].startswith("epoch 3/90: loss")
    if num:
        assert said[0] == f"epoch 3: others took the places of images that cannot be decoded: {num}{named}"
