"""The command `twinvae`."""

from __future__ import annotations

import sys

from rich.markup import escape

from twinvae.cli import app
from twinvae.errors import TwinvaeError
from twinvae.progress import console


def main() -> None:
    """Run the command line; a user's error becomes one clear message and its exit code."""
    try:
        app()
    except TwinvaeError as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
