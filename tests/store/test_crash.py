"""kill -9 at random moments, alone and beside others: the finished store is an undisturbed one, byte for byte."""

import subprocess
import sys

from tests.store.world import World, tree

# Forks writers after the slow imports, so that a kill hits writing and not importing.
WRITERS = """
import os, random, signal, sys, time
import torch
torch.set_num_threads(1)
from tests.store.world import World

def write(world, root):
    writer = world.open_writer(root)
    parts = writer.missing_parts(6, block_views=2)
    random.Random(os.getpid()).shuffle(parts)
    for part in parts:
        world.write_part(writer, part)
    writer.seal()

def start(root):
    child = os.fork()
    if child == 0:
        try:
            write(World(sizes=(30, 20, 25, 5)), root)
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    return child

root, rounds, writers, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
clock = random.Random(writers)
for _ in range(rounds):
    children = [start(root) for _ in range(writers)]
    for child in children:
        time.sleep(clock.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
children = [start(root) for _ in range(writers)]
failed = [child for child in children if os.waitpid(child, 0)[1] != 0]
sys.exit(len(failed))
"""


def crash_and_finish(root, *, rounds, writers, seconds=0.12):
    command = [sys.executable, "-c", WRITERS, str(root), str(rounds), str(writers), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def undisturbed(root):
    World(sizes=(30, 20, 25, 5)).write(root, 6, block_views=2)
    return tree(root)


def test_killed_at_20_random_moments_and_resumed(tmp_path):
    crash_and_finish(tmp_path / "killed", rounds=20, writers=1)
    World(sizes=(30, 20, 25, 5)).open_writer(tmp_path / "killed").seal()
    assert tree(tmp_path / "killed") == undisturbed(tmp_path / "undisturbed")


def test_four_writers_at_once_killed_and_resumed(tmp_path):
    crash_and_finish(tmp_path / "killed", rounds=5, writers=4)
    # The last of them to finish has swept; a writer that finds nothing missing does so too.
    World(sizes=(30, 20, 25, 5)).open_writer(tmp_path / "killed").seal()
    assert tree(tmp_path / "killed") == undisturbed(tmp_path / "undisturbed")


def test_two_writers_at_once_undisturbed(tmp_path):
    crash_and_finish(tmp_path / "two", rounds=0, writers=2)
    assert tree(tmp_path / "two") == undisturbed(tmp_path / "undisturbed")


def test_what_a_killed_writer_with_other_bits_left_goes_when_the_block_is_complete(tmp_path):
    world = World()
    writer = world.open_writer(tmp_path)
    parts = writer.missing_parts(1)
    orphans = [tmp_path / "parts/v000-000" / name for name in (f"train-0000-{'0' * 16}.zarr.zip", f".x.{'0' * 32}.tmp")]
    for part in parts:
        assert all(orphan.exists() for orphan in orphans) == (part != parts[0])
        world.write_part(writer, part)
        [orphan.touch() for orphan in orphans]
        if part != parts[-1]:
            writer.seal()
    writer.seal()
    assert not any(orphan.exists() for orphan in orphans)
    world.write(tmp_path.parent / "undisturbed", 1)
    assert tree(tmp_path) == tree(tmp_path.parent / "undisturbed")
