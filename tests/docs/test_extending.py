"""docs/extending.md: its blocks run as one program, and what it says of names is so."""

import re

from tests.processes import ROOT, python

PAGE = (ROOT / "docs" / "extending.md").read_text()


def test_the_blocks_run_as_one_program(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "program.py").write_text("from __future__ import annotations\n" + "\n".join(blocks))
    hinge, quarter, tilt, images, folder, archive, logits, teacher = python(
        "program.py", cwd=tmp_path
    ).stdout.splitlines()
    assert re.fullmatch(r"tensor\([\d.]+\)", hinge)
    assert quarter == "View(top=187, left=250, height=187, width=250, flip=False, ops=())"
    assert re.fullmatch(r"\(Op\(name='rotate', arguments=\(-?[0-4]\.\d+,\)\),\)", tilt)
    assert images == "torch.Size([2, 1, 3, 8, 8])"
    assert folder == "1"
    assert archive == "True"
    assert logits == "torch.Size([2, 3])"
    assert teacher == "tv18:5"


def test_the_files_that_it_names_are_there():
    for path in re.findall(r"`((?:pld|train_student|tests)/[\w/]+(?:\.py|/))`", PAGE):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\((examples/[\w/.]+)\)", PAGE):
        assert (ROOT / "docs" / path).exists(), path
