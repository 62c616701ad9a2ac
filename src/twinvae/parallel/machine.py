"""What this machine has for heavy work: GPUs, and memory that is free."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from twinvae.errors import ConfigError

Device = Literal["auto", "cpu", "cuda"]

# Of a control group, by version: folder of the tree, limit, use, and in memory.stat what of that
# use is read from files and can be given back.
_GROUPS = {
    2: ("", "memory.max", "memory.current", "inactive_file"),
    1: ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def gpus(device: Device) -> int:
    """How many CUDA GPUs work on ``device`` may use; 0 where it is for the CPU.

    Raises ``ConfigError`` when CUDA is asked for and not there.
    """
    if device == "cpu":
        return 0
    import torch

    if torch.cuda.is_available():
        return max(1, torch.cuda.device_count())
    if device == "cuda":
        raise ConfigError("compute.device: expected a CUDA GPU for 'cuda', found none")
    return 0


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that new work may take: what the system has left, or the control group's limit leaves.

    None where the system does not say. ``root`` is where `proc` and `sys` are.
    """
    found = [_system_left(root), *(_group_left(*group) for group in _groups(root))]
    known = [left for left in found if left is not None]
    return max(0, min(known)) if known else None


def _system_left(root: Path) -> int | None:
    for line in _text(root / "proc" / "meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


def _groups(root: Path) -> list[tuple[Path, int]]:
    """Folders of the control groups this process is in, each with all above it, and versions.

    A container may see its own group as the root of the tree, under a path that is not there.
    """
    found = []
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        _, kinds, name = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        number = 1 if kinds else 2
        place = Path(name)
        tree = root / "sys" / "fs" / "cgroup" / _GROUPS[number][0]
        found += [(tree / str(up).lstrip("/"), number) for up in (place, *place.parents)]
    return found


def _group_left(folder: Path, number: int) -> int | None:
    _, limit_name, use_name, cached_name = _GROUPS[number]
    limit, use = _text(folder / limit_name).strip(), _text(folder / use_name).strip()
    if not limit.isdigit() or not use.isdigit():  # no such file, or `max`
        return None
    facts = dict(line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines())
    return int(limit) - int(use) + int(facts.get(cached_name, 0))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
