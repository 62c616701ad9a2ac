"""The command `twinvae`."""

from __future__ import annotations

import sys

from rich.markup import escape

from twinvae.commands.app import app
from twinvae.errors import TwinvaeError
from twinvae.progress import console


def main() -> None:
    """Run the command line; what a user can mend becomes one clear message and an exit code."""
    try:
        app()
    except TwinvaeError as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, a folder that may not be written
        where = f"{error.filename}: " if error.filename else ""
        said = escape(f"{where}{error.strerror or error}")
        console.print(f"[bold red]error:[/] {said}", soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
