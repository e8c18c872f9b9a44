"""`pld data ... | head`: the command ends as other tools do when their output is read no further."""

import os
import subprocess
import sys

from tests.making import make_dataset
from tests.processes import environment


def test_a_closed_pipe_ends_a_command_quietly(tmp_path):
    data = make_dataset(tmp_path / "data", shard_sizes=(3,), num_val=1)
    reader, writer = os.pipe()
    os.close(reader)
    program = "from pld.cli.main import main; raise SystemExit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, "data", data],
        env=environment(PLD_CACHE=str(tmp_path / "cache")),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
