"""What is free of memory, on machines that are folders here."""

import pytest

from twinvae.parallel import free_memory

GIB = 2**30


@pytest.fixture
def machine(tmp_path):
    """A machine of which a file says what stands in ``files``, by path."""

    def write(files, available=8 * GIB):
        if available is not None:
            files = {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable: {available // 1024} kB\n"} | (
                files
            )
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        return tmp_path

    return write


def group(folder, limit, use, cached=0, version=2):
    names = {
        2: ("memory.max", "memory.current", "inactive_file"),
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    }
    most, used, given_back = names[version]
    return {
        f"{folder}/{most}": limit,
        f"{folder}/{used}": use,
        f"{folder}/memory.stat": f"anon 5\n{given_back} {cached}",
    }


def test_without_a_limit_it_is_what_the_system_has_left(machine):
    assert free_memory(machine({})) == 8 * GIB
    assert free_memory(
        machine({"proc/self/cgroup": "0::/", **group("sys/fs/cgroup", "max", 1)})
    ) == (8 * GIB)


def test_a_system_that_does_not_say(machine):
    assert free_memory(machine({}, available=None)) is None


@pytest.mark.parametrize(
    ("line", "folder", "version"),
    [
        ("0::/user/job", "sys/fs/cgroup/user/job", 2),
        ("0::/user/job", "sys/fs/cgroup/user", 2),  # a limit above
        ("0::/docker/4f", "sys/fs/cgroup", 2),  # a container sees its own group as the root
        ("7:cpu:/x\n4:memory,hugetlb:/slurm/step", "sys/fs/cgroup/memory/slurm/step", 1),
        ("4:memory:/docker/4f", "sys/fs/cgroup/memory", 1),
    ],
)
def test_a_control_groups_limit_less_its_use_but_for_files_read(machine, line, folder, version):
    files = group(folder, 4 * GIB, 3 * GIB, GIB, version) | {"proc/self/cgroup": line}
    assert free_memory(machine(files)) == 2 * GIB


def test_it_is_the_smallest_of_all_and_never_below_zero(machine):
    outer = group("sys/fs/cgroup/a", 6 * GIB, 3 * GIB)
    inner = group("sys/fs/cgroup/a/b", 5 * GIB, 3 * GIB)
    at = {"proc/self/cgroup": "0::/a/b"}
    assert free_memory(machine(outer | inner | at)) == 2 * GIB
    assert free_memory(machine(outer | inner | at, available=GIB)) == GIB
    assert free_memory(machine(group("sys/fs/cgroup/a", 2 * GIB, 3 * GIB))) == 0
