"""Claims, by which writers agree where there are no hard links: every order of their calls that a seed draws."""

import errno
import os
import random
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from pld.store.objects import exclusive


class Killed(BaseException):
    """What a killed writer meets at its next call."""


class Race:
    """Writers of one name, of which one at a time makes a call on the file system, in an order drawn from a seed.

    Some are killed, a rename may fail, and the clock may leap between any two calls, as it does for a writer that was
    stopped. Who has finished sweeps, from what may be an old list.
    """

    def __init__(self, path, seed, *, writers, kills=0, failures=0, leaps=False):
        self.path, self.random, self.leaps = path, random.Random(seed), leaps
        self.kills, self.failures = kills, failures
        self.now, self.won, self.answers, self.replaced = 0.0, [], 0, False
        self.turns = {str(number): threading.Semaphore(0) for number in range(writers)}
        self.parked, self.running, self.killed, self.faults = threading.Semaphore(0), set(self.turns), set(), []

    def run(self):
        threads = [threading.Thread(target=self.write, args=(name,), name=name) for name in self.turns]
        for thread in threads:
            thread.start()
            self.parked.acquire()
        current = "0"
        while self.running:
            # Long runs of one writer as well as fine interleavings.
            if current not in self.running or self.random.random() < 0.4:
                current = self.random.choice(sorted(self.running))
            if self.kills and self.random.random() < 0.05:
                self.kills -= 1
                self.killed.add(current)
            if self.leaps and self.random.random() < 0.1:
                self.now += 31
            self.turns[current].release()
            self.parked.acquire()
        [thread.join() for thread in threads]
        return self

    def write(self, name):
        staged = self.path.with_name(f".{self.path.name}.{name * 32}.tmp")
        try:
            staged.write_text(name)
            try:
                if exclusive._rename_by_claim(staged, self.path, name.encode()):
                    self.won.append(name)
                self.answers += 1
                if not os.access(self.path, os.F_OK):
                    self.faults.append("an answer without an object")
            finally:
                staged.unlink(missing_ok=True)
            if self.path.exists():
                for leftover in sorted(self.path.parent.glob(".*.tmp")):
                    leftover.unlink(missing_ok=True)
        except Killed:
            pass
        except Exception as error:
            if getattr(error, "errno", None) != errno.EIO:
                self.faults.append(repr(error))
        self.running.remove(name)
        self.parked.release()

    def before_a_call(self):
        name = threading.current_thread().name
        if name not in self.turns:
            return
        if name not in self.killed:
            self.parked.release()
            self.turns[name].acquire()
        if name in self.killed:
            raise Killed

    def hooked(self, call):
        def hook(*arguments, **settings):
            self.before_a_call()
            if call is os.replace:
                if self.failures and self.random.random() < 0.3:
                    self.failures -= 1
                    raise OSError(errno.EIO, "")
                if all(map(os.path.exists, arguments)):
                    self.faults.append("an object was replaced")
            return call(*arguments, **settings)

        return hook

    def sleep(self, seconds):
        self.now += bool(self.leaps or self.killed)

    def install(self, patch):
        for name in ("exists", "read_bytes", "unlink"):
            patch.setattr(Path, name, self.hooked(getattr(Path, name)))
        patch.setattr(Path, "replace", self.hooked(os.replace))
        calls = {name: getattr(os, name) for name in dir(os)}
        calls |= {"open": self.hooked(os.open), "write": self.hooked(os.write)}
        patch.setattr(exclusive, "os", SimpleNamespace(**calls))
        patch.setattr(exclusive, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep))
        return self


RACES = [
    {"writers": 3},
    {"writers": 2, "kills": 1},
    {"writers": 4, "kills": 2, "failures": 1},
    {"writers": 3, "leaps": True},
    {"writers": 4, "kills": 1, "failures": 1, "leaps": True},
]


@pytest.mark.parametrize("seeds", [range(250), pytest.param(range(250, 5000), marks=pytest.mark.long)], ids=str)
@pytest.mark.parametrize("settings", RACES, ids=str)
def test_no_order_of_calls_lets_two_writers_create_an_object(tmp_path, monkeypatch, settings, seeds):
    for seed in seeds:
        path = tmp_path / str(seed) / "x"
        path.parent.mkdir()
        with monkeypatch.context() as patch:
            race = Race(path, seed, **settings).install(patch).run()
        assert race.faults == [], seed
        assert race.won in ([], [path.read_text()]) if race.answers else race.won == [], seed
        assert race.won or race.killed or settings.get("failures"), seed
