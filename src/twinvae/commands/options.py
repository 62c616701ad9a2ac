"""What several commands share: options, what they change in a configuration, help with examples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from twinvae.commands import completing

Command = TypeVar("Command", bound=Callable[..., None])

RunFolder = Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)]
Preset = Annotated[
    str,
    typer.Argument(
        help="Preset name or YAML file.", show_default=False, autocompletion=completing.presets
    ),
]
Device = Annotated[
    str | None, typer.Option(help="auto, cpu or cuda.", autocompletion=completing.devices)
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores.")]
Precision = Annotated[
    str | None, typer.Option(help="fp32, bf16 or auto.", autocompletion=completing.precisions)
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core.")]
Dask = Annotated[str | None, typer.Option(help="Scheduler of a Dask cluster, as tcp://host:8786.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the output file if it is there.")
]
TrustGrid = Annotated[
    bool, typer.Option("--trust-grid", help="Masks of a scan's shape and voxels lie on its grid.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Override one setting, as training.healthy.epochs=5; repeatable.",
        autocompletion=completing.settings,
    ),
]


def example(line: str) -> Callable[[Command], Command]:
    """Say at the end of a command's help how it is typed."""

    def add(command: Command) -> Command:
        command.__dict__["example"] = line
        return command

    return add


def overrides_of(
    settings: list[str] | None,
    device: str | None = None,
    threads: int | None = None,
    precision: str | None = None,
    jobs: int | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Dotted settings from the command line's flags and ``--set`` options."""
    import yaml

    from twinvae.errors import ConfigError

    flags = {
        "compute.device": device,
        "compute.threads": threads,
        "compute.precision": precision,
        "compute.jobs": jobs,
        "seed": seed,
    }
    overrides: dict[str, Any] = {key: value for key, value in flags.items() if value is not None}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set: expected key=value, found {setting!r}")
        overrides[key] = yaml.safe_load(value)
    return overrides
