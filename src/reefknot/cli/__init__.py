"""The command line. ``main`` is what the ``reefknot`` script calls.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

FAILED = 1
USAGE = 2


def main(args: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        args: the words after ``reefknot``; those of the process if not given.

    Returns:
        The exit code.
    """
    try:
        from reefknot.cli.run import run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("reefknot"):
            raise
        sys.stderr.write(
            f"reefknot: the command line needs {error.name}; install it with: pip install 'reefknot[server]'\n"
        )
        return USAGE
    return run(sys.argv[1:] if args is None else list(args))
