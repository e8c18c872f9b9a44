"""Free memory is the least of what the machine and its control groups leave; the systems' files are made up."""

from pathlib import Path

import pytest

from pld.loading.machine import Machine, free_memory

GB = 10**9


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def root(tmp_path):
    """A machine with 8 GB free."""
    write(tmp_path, {"proc/meminfo": f"MemTotal: 99999999 kB\nMemAvailable: {8 * GB // 1024} kB\nHugePages_Total: 0\n"})
    return tmp_path


def group_v2(folder: str, limit: str, used: int, files: int = 0) -> dict[str, str]:
    stat = f"anon 5\nfile {files + 77}\ninactive_file {files}\nactive_file 0\n"
    return {f"{folder}/memory.max": limit, f"{folder}/memory.current": str(used), f"{folder}/memory.stat": stat}


def group_v1(folder: str, limit: int, used: int, files: int) -> dict[str, str]:
    stat = f"inactive_file 1\nactive_file 1\ntotal_inactive_file {files - 10}\ntotal_active_file 10\n"
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
    return {f"{folder}/{name}": text for name, text in zip(names, (str(limit), str(used), stat), strict=True)}


def test_without_groups_it_is_the_machines(root):
    assert free_memory(root) == (8 * GB // 1024 * 1024, "this machine")


def test_a_systems_that_tells_nothing(tmp_path):
    assert free_memory(tmp_path) is None


def test_pages_of_files_are_free(root):
    write(root, {"proc/self/cgroup": "0::/job\n", **group_v2("sys/fs/cgroup/job", f"{3 * GB}\n", 2 * GB, GB)})
    assert free_memory(root) == (2 * GB, "this container or job (cgroup)")


def test_the_narrowest_group_counts(root):
    """The step of a job has no limit, the job has."""
    write(root, {"proc/self/cgroup": "0::/job/step\n", **group_v2("sys/fs/cgroup/job", f"{2 * GB}\n", GB)})
    write(root, group_v2("sys/fs/cgroup/job/step", "max\n", GB // 2))
    assert free_memory(root)[0] == GB


def test_a_wide_limit_is_no_limit(root):
    write(root, {"proc/self/cgroup": "0::/\n", **group_v2("sys/fs/cgroup", f"{99 * GB}\n", 0)})
    assert free_memory(root)[1] == "this machine"


def test_more_used_than_the_limit(root):
    write(root, {"proc/self/cgroup": "0::/\n", **group_v2("sys/fs/cgroup", f"{GB}\n", 2 * GB)})
    assert free_memory(root)[0] == 0


@pytest.mark.parametrize("folder", ["sys/fs/cgroup/memory/docker/1f", "sys/fs/cgroup/memory"])
def test_version_1_also_where_a_container_sees_its_own_group_alone(root, folder):
    lines = "9:name=systemd:/\n4:cpu,memory:/docker/1f\n0::/\n"
    write(root, {"proc/self/cgroup": lines, **group_v1(folder, 3 * GB, 2 * GB, GB // 2)})
    assert free_memory(root) == (3 * GB // 2, "this container or job (cgroup)")


def test_this_machine_has_something_of_everything():
    machine = Machine.now()
    assert machine.memory_bytes is None or machine.memory_bytes > 0
    assert 3 <= machine.open_files < machine.most_open_files <= machine.hard_open_files
