"""The command ``lit-rl``. Importing it loads neither torch nor Lightning."""

from lit_rl.cli.entry import main

__all__ = ["main"]
