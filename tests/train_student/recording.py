"""`python -m tests.train_student.recording FILE ARGUMENTS...`: train, and log what each step consumes.

A line of FILE is a step's share of one process: the step, the view, the keys, the process and how many there are.
"""

import json
import os
import sys
from pathlib import Path

import train_student.loop.learner
import train_student.run.train
from pld.config import run
from train_student.run.train import main

LOG = Path(sys.argv[1])
PLACE = [int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))]
_step = train_student.loop.learner.Learner.step


def recorded(self, batches, steps_done):
    losses = _step(self, batches, steps_done)
    with LOG.open("a") as file:
        for batch in batches:
            keys = [SOURCE[0].key(row) for row in batch.request.rows.tolist()]
            file.write(json.dumps([steps_done + 1, list(batch.request.view_indexes), keys, *PLACE]) + "\n")
    return losses


SOURCE = []
_open = train_student.run.train.open_training_data


def opened(*arguments, **named):
    data = _open(*arguments, **named)
    SOURCE.append(data.train)
    return data


if __name__ == "__main__":
    train_student.loop.learner.Learner.step = recorded
    train_student.run.train.open_training_data = opened
    raise SystemExit(run(main, sys.argv[2:]))
