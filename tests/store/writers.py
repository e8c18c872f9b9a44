"""Concurrent writers of one store, killed at random moments: `python -m tests.store.writers URL ROUNDS ...`.

They are forked after the slow imports, so that a kill hits writing and not importing. In the last round nobody is
killed. Prints how many were killed before they had finished.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
import traceback

import torch

from tests.processes import ROOT, environment
from tests.store.world import World


class Perturbed(World):
    """A world whose teacher rounds otherwise in each process."""

    def logits(self, shard, view):
        logits = super().logits(shard, view)
        noise = torch.Generator().manual_seed(os.getpid())
        return logits + 0.2 * torch.randn(logits.shape, generator=noise)


def the_world(num_shards, *, perturbed=False):
    sizes = ((30, 20, 25, 5) * num_shards)[:num_shards]
    return (Perturbed if perturbed else World)(sizes=sizes)


def crash_and_finish(url, *, rounds, writers, seconds, shards=4, views=6, perturbed=False, env=None):
    """Run this module; how many writers were killed at work."""
    command = [sys.executable, "-m", "tests.store.writers", str(url), str(rounds), str(writers), str(seconds)]
    command += [str(shards), str(views), *["--perturbed"] * perturbed]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=900, check=False, cwd=ROOT, env=environment(**(env or {}))
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def write(world, url, views):
    writer = world.open_writer(url)
    parts = writer.missing_parts(views, block_views=2)
    random.Random(os.getpid()).shuffle(parts)
    for part in parts:
        world.write_part(writer, part)
    writer.seal()


def start(world, url, views):
    child = os.fork()
    if child == 0:
        try:
            write(world, url, views)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return child


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    for name, kind in (("rounds", int), ("writers", int), ("seconds", float), ("shards", int), ("views", int)):
        parser.add_argument(name, type=kind)
    parser.add_argument("--perturbed", action="store_true")
    told = parser.parse_args()
    torch.set_num_threads(1)
    world = the_world(told.shards, perturbed=told.perturbed)
    clock, killed = random.Random(told.writers), 0
    for _ in range(told.rounds):
        began = time.monotonic()
        children = [start(world, told.url, told.views) for _ in range(told.writers)]
        for child, moment in zip(children, sorted(clock.uniform(0, told.seconds) for _ in children), strict=True):
            time.sleep(max(0.0, began + moment - time.monotonic()))
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            killed += os.WIFSIGNALED(status)
            assert os.WIFSIGNALED(status) or status == 0, "a writer failed"
    children = [start(world, told.url, told.views) for _ in range(told.writers)]
    failed = [child for child in children if os.waitpid(child, 0)[1] != 0]
    print(killed)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
