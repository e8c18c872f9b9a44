"""What a launcher is told against the run's options is refused, and its advice is followed."""

import pytest

from pld.errors import ConfigError
from tests.making import student_settings
from tests.processes import ROOT, python
from tests.train_student.runs import as_arguments
from train_student.run.launcher_variables import check_launcher_variables


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "MIXED_PRECISION",
            "bf16",
            "--precision fp32: give --precision bf16, or accelerate launch --mixed_precision no",
        ),
        ("MIXED_PRECISION", "fp8", "--precision fp32: give accelerate launch --mixed_precision no"),
        ("GRADIENT_ACCUMULATION_STEPS", "4", "unset it, and give --accumulate 4"),
        ("DYNAMO_BACKEND", "INDUCTOR", "--dynamo_backend no, and here --compile"),
        ("USE_FSDP", "true", "FSDP is not supported"),
        ("USE_DEEPSPEED", "true", "DeepSpeed is not supported"),
    ],
)
def test_it_is_refused(name, value, said):
    with pytest.raises(ConfigError, match=f"^ACCELERATE_{name} .*{said}"):
        check_launcher_variables({f"ACCELERATE_{name}": value}, "fp32")


def test_what_agrees_is_accepted():
    check_launcher_variables({}, "bf16")
    check_launcher_variables({"ACCELERATE_MIXED_PRECISION": "bf16"}, "bf16")
    told = {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO", "ACCELERATE_USE_FSDP": "false"}
    check_launcher_variables({**told, "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1"}, "fp16")


@pytest.mark.long
@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (["--mixed_precision", "bf16"], ["--mixed_precision", "no"]),
        (["--dynamo_backend", "eager"], ["--dynamo_backend", "no"]),
    ],
)
def test_the_launcher_is_refused_until_the_advice_is_followed(world, tmp_path, wrong, right):
    words = as_arguments(student_settings(world, tmp_path / "run", epochs=1, tracker="none"))
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1"]
    refused = python(*launch, *wrong, ROOT / "train_student.py", *words, cwd=tmp_path, check=False)
    assert refused.returncode != 0
    assert " ".join(right) in refused.stderr
    assert not (tmp_path / "run").exists()
    python(*launch, *right, ROOT / "train_student.py", *words, cwd=tmp_path)
    assert (tmp_path / "run" / "model").exists()
