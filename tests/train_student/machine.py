"""`python -m tests.train_student.machine ARGUMENTS...`: train; each process of torchrun plays a machine of its own.

It has its own cache folder and its own way to the object store (PORTS, by process), whose traffic can be told apart.
"""

import os
import sys

from pld.config import run
from train_student.run.train import main

if __name__ == "__main__":
    rank = os.environ["RANK"]
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{os.environ['PORTS'].split(',')[int(rank)]}"
    os.environ["PLD_CACHE"] += f"-{rank}"
    os.environ["LOCAL_WORLD_SIZE"], os.environ["LOCAL_RANK"] = "1", "0"
    raise SystemExit(run(main, sys.argv[1:]))
