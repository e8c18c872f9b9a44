"""`python -m tests.train_student.recording FILE ARGUMENTS...`: train, and log what each step consumes.

A line of FILE is a step's share of one process: the step, the view, the keys, the process and how many there are.
With HOLD in the environment the run's last process writes its number to FILE.held there, and holds until it is asked to
stop, or for ever if HOLD is "hang". STEP_SECONDS is how long a step is waited for once the launcher is gone.
"""

import json
import os
import sys
import time
from pathlib import Path

import pld.evaluation
import pld.process.stopping
import train_student.data.view_tables
import train_student.loop.checkpoint
import train_student.loop.learner
import train_student.run.train
from train_student.__main__ import main

LOG = Path(sys.argv[1])
PLACE = [int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))]
HOLD = os.environ.get("HOLD")  # a step's number, or a name of `hold`'s
PACE = float(os.environ.get("PACE", "0"))  # a step's seconds at least
SOURCE, STOPPING = [], []


def hold(place):
    """Wait here until this process is asked to stop, if it is the place."""
    if place == HOLD and PLACE[0] == PLACE[1] - 1:
        LOG.with_suffix(".held").write_text(str(os.getpid()))
        while not STOPPING[0].wait(120) or HOLD == "hang":
            time.sleep(1)


def holding(module, name, place):
    """Make a function of a module hold when it is called."""
    function = getattr(module, name)

    def held(*arguments, **named):
        hold(place)
        return function(*arguments, **named)

    setattr(module, name, held)


_step = train_student.loop.learner.Learner.step


def recorded(self, batches, steps_done):
    losses = _step(self, batches, steps_done)
    with LOG.open("a") as file:
        for batch in batches:
            keys = [SOURCE[0].key(row) for row in batch.request.rows.tolist()]
            file.write(json.dumps([steps_done + 1, list(batch.request.view_indexes), keys, *PLACE]) + "\n")
    time.sleep(PACE)
    hold("hang" if HOLD == "hang" and steps_done == 4 else str(steps_done + 1))
    return losses


_open = train_student.run.train.open_training_data


def opened(*arguments, **named):
    hold("startup")
    data = _open(*arguments, **named)
    SOURCE.append(data.train)
    return data


_train = train_student.run.train.train


def trained(config, stopping):
    STOPPING.append(stopping)
    _train(config, stopping)


_load_view = train_student.data.view_tables.ViewTables._load_view


def load_slowly(self, view):
    """Nothing interrupts it but the process's end."""
    time.sleep(60 * (view > 0))
    return _load_view(self, view)


if __name__ == "__main__":
    if seconds := os.environ.get("STEP_SECONDS"):
        pld.process.stopping._STEP_SECONDS = float(seconds)
    train_student.loop.learner.Learner.step = recorded
    train_student.run.train.open_training_data = opened
    train_student.run.train.train = trained
    holding(pld.evaluation.measure, "batch_sums", "validation")
    holding(train_student.loop.checkpoint, "save_file", "saving")
    if HOLD == "view":
        holding(train_student.data.view_tables.ViewTables, "is_settled", "view")
        train_student.data.view_tables.ViewTables._load_view = load_slowly
    raise SystemExit(main(sys.argv[2:]))
