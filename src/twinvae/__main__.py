"""``python -m twinvae``, and where the command `twinvae` begins."""

from twinvae.commands.app import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
