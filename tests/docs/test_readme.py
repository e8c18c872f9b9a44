"""README's commands run as they stand, but for where things are and how large they are."""

import pytest
import yaml

from pld.store import open_store
from tests.making import make_dataset, make_teacher, student_settings
from tests.pages import in_small, indented_blocks, repository, run_bash
from tests.processes import ROOT

# What stands for the things that a test has not: ImageNet, the hubs, eight GPUs and a week.
SMALL = {
    "TEACHER=vit_large": "TEACHER=local-dir:teacher",
    "imagenet/train-{0000..1023}.tar": "data/train-{0000..0002}.tar",
    "VIEWS=50 K=50": "VIEWS=2 K=5",
    "--data imagenet": "--config small.yaml --data data",
    "--model resnet50": "",
    "--store stores/resnet152 ": "--store stores/vit_large ",
    "--config_file docs/launch/8gpus.yaml": "",
    "--config paper/resnet50_resnet152_pld\n": "--config small.yaml\n",
    "--views 0-7": "--views 0",
}
# Run by CI, and by whoever changes the demo; not from within a test.
ELSEWHERE = ("make demo", "make test")


def commands():
    """The commands of README's indented blocks, those of Python and those run elsewhere left out."""
    lines = indented_blocks(ROOT / "README.md").splitlines(keepends=True)
    return "".join(line for line in lines if "pld_loss" not in line and not line.startswith(ELSEWHERE))


@pytest.mark.long
def test_the_commands(tmp_path, bucket, object_store):
    program = in_small(commands(), SMALL | {"s3://bucket": bucket})
    folder = repository(tmp_path)
    make_dataset(folder / "data")
    make_teacher(folder / "teacher", spread=0.1)
    settings = student_settings(folder, folder / "runs" / "student", epochs=1)
    # The dry run, which needs no store; the others name their own.
    (folder / "small.yaml").write_text(yaml.safe_dump({**settings, "store": str(folder / "stores" / "vit_large")}))
    printed = run_bash(program, folder, timeout=1200)
    assert "trains and writes nothing" in printed
    for page in ("store.html", "report.html"):
        assert "</html>" in (folder / page).read_text()
    assert open_store(f"{bucket}/vit_large").num_samples == 71
