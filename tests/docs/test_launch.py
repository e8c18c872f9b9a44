"""docs/launch: accelerate reads its files, shells read the script, and what they launch is what they say."""

import re
import stat
import subprocess

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType

from pld.config import parse_config
from tests.processes import ROOT, environment
from train_student.config import RECIPES, TrainConfig

LAUNCH = ROOT / "docs" / "launch"
RECIPE = "paper/resnet50_resnet152_pld"


@pytest.mark.parametrize(("name", "machines", "processes"), [("8gpus", 1, 8), ("2x8gpus", 2, 16)])
def test_accelerate_reads_its_file(name, machines, processes):
    config = load_config_from_file(str(LAUNCH / f"{name}.yaml"))  # refuses keys that it does not know
    assert config.distributed_type == DistributedType.MULTI_GPU
    assert (config.num_machines, config.num_processes) == (machines, processes)
    assert config.mixed_precision == "no"
    recipe = parse_config(TrainConfig, ["--config", RECIPE], prog="", description="", named_files=RECIPES)
    assert recipe.optimizer.batch_size % processes == recipe.data.streams % processes == 0


@pytest.mark.parametrize("name", ["8gpus", "2x8gpus"])
def test_accelerate_launches_by_its_file(name):
    file = LAUNCH / f"{name}.yaml"
    argv = ["--config_file", str(file), "--machine_rank", "1", "train_student.py", "--config", RECIPE]
    arguments, config, _ = _validate_launch_command(launch_command_parser().parse_args(argv))
    assert arguments.multi_gpu
    assert arguments.num_processes == config.num_processes == yaml.safe_load(file.read_text())["num_processes"]
    assert arguments.machine_rank == 1
    assert arguments.training_script_args == ["--config", RECIPE]


def launched(tmp_path, *argv):
    """What slurm.sbatch would start on each of two machines, with stand-ins for SLURM's programs and accelerate."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text("")
    stand_ins = {
        "scontrol": "printf 'node7\\nnode8\\n'",
        "srun": 'shift; for id in 0 1; do SLURM_NODEID=$id "$@"; done',
        "accelerate": 'printf "%s\\n" "$@" END',
    }
    for name, body in stand_ins.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(stat.S_IRWXU)
    path = f"{tmp_path}:{environment()['PATH']}"
    slurm = environment(PATH=path, SLURM_JOB_NODELIST="node[7-8]", SLURM_NNODES="2")
    script = ["bash", str(LAUNCH / "slurm.sbatch"), *argv]
    done = subprocess.run(script, cwd=tmp_path, env=slurm, capture_output=True, text=True, check=False, timeout=60)
    return done, [part.strip().splitlines() for part in done.stdout.split("END\n") if part]


def test_the_script_is_bash():
    assert subprocess.run(["bash", "-n", LAUNCH / "slurm.sbatch"], capture_output=True, check=True).stderr == b""


def test_the_script_launches_each_machine_with_its_rank(tmp_path):
    done, starts = launched(tmp_path, RECIPE, "--output", "runs/a b", "--data", "train-{0000..1023}.tar")
    assert done.returncode == 0, done.stderr
    assert len(starts) == 2
    for rank, argv in enumerate(starts):
        assert argv[0] == "launch"
        arguments = launch_command_parser().parse_args(argv[1:])
        assert (arguments.machine_rank, arguments.num_machines, arguments.num_processes) == (rank, 2, 16)
        assert (arguments.main_process_ip, arguments.main_process_port) == ("node7", 29500)
        assert arguments.training_script == "train_student.py"
        config = parse_config(TrainConfig, arguments.training_script_args, prog="", description="", named_files=RECIPES)
        assert config.run.resume == "auto"
        assert (config.model.name, config.run.output, config.data.images) == (
            "resnet50",
            "runs/a b",
            "train-{0000..1023}.tar",
        )


def test_the_script_wants_a_recipe(tmp_path):
    done, starts = launched(tmp_path)
    assert (done.returncode, starts) == (1, [])
    assert "which recipe" in done.stderr


def test_the_page_names_files_that_are_there():
    links = re.findall(r"\]\(([^)]+)\)", (LAUNCH / "README.md").read_text())
    assert len(links) == 3
    assert all((LAUNCH / link).is_file() for link in links)
