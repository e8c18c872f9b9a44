"""Shell completion: the printed script is bash, and completes commands and options."""

import subprocess

import pytest

from cache_teacher.cache import main as cache_teacher
from pld.cli.main import _main as pld
from train_student.run.train import main as train_student


@pytest.mark.parametrize(
    ("main", "program", "typed", "wanted"),
    [
        (pld, "pld", "ver", "verify"),
        (pld, "pld", "la", "landscape"),
        (cache_teacher, "cache-teacher", "--tem", "--temperatures"),
        (train_student, "train-student", "--push", "--push_to_hub"),
    ],
)
def test_a_shell_completes(main, program, typed, wanted, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--print_completion", "bash"])
    assert stopped.value.code in (0, None)
    function = f"_shtab_{program.replace('-', '_')}"
    ask = f"COMP_WORDS=({program} {typed}); COMP_CWORD=1; {function}; printf '%s ' ${{COMPREPLY[@]}}"
    script = capsys.readouterr().out + "\n" + ask
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert wanted in done.stdout.split(), done.stderr
