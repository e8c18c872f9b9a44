"""Datasets with images that cannot be decoded."""

import itertools
import tarfile

from tests.making import STUDENT, write_tar
from train_student.data.batches import epoch_items

BAD_ROWS = [11, 12, 61, 130, 200]  # none of them is a probe of the store
BAD_VAL = 7
# Dropout and an average of weights: everything that a state must hold.
SETTINGS = {"ema_decay": 0.9, "tracker": "none", "model_kwargs": {**STUDENT, "drop_rate": 0.1}}


def damage(folder, *keys):
    """In place of the images there is something that is none."""
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}
        write_tar(path, {**members, **{f"{key}.jpg": b"no image" for key in keys if f"{key}.jpg" in members}})


def by_hand(rows, bad_rows):
    """The rows that are trained in place of `rows`, place by place; there must be a good one."""
    found = []
    for place in range(len(rows)):
        while rows[place % len(rows)] in bad_rows:
            place += 1
        found.append(rows[place % len(rows)])
    return found


def val_key(row=BAD_VAL):
    return f"val-{row:04d}"


def asked_for(source, epoch, *, world_size=1, micro_batches=1):
    """The rows of each micro-batch of an epoch, in all processes."""
    shares = [
        epoch_items(source, seed=0, epoch=epoch, view_indexes=(epoch,), batch_size=16, streams=4, rank=rank,
                    world=world_size, micro_batches=micro_batches) for rank in range(world_size)]  # fmt: skip
    return [item.rows.tolist() for item in itertools.chain(*shares)]


def num_bad(source, epoch, **settings):
    return sum(row in BAD_ROWS for rows in asked_for(source, epoch, **settings) for row in rows)
