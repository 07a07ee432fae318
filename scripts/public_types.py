"""Check that every public name of the SDK has a known type, as the user of a typed package expects.

``pyright --verifytypes`` looks at the whole package. The server's modules are no API: only what stands
in the SDK's modules counts here.
"""

# ruff: noqa: INP001 - a script, no part of a package
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

#: Where a user's program imports from.
SDK = (
    "reefknot.barrier",
    "reefknot.client",
    "reefknot.compat",
    "reefknot.contrib",
    "reefknot.errors",
    "reefknot.model",
    "reefknot.workflows",
    "reefknot.xa",
)

#: Built on classes of a framework that has no types of its own.
UNTYPED = ("reefknot.contrib.django.",)


def is_sdk(name: str) -> bool:
    """Whether a symbol's full name is one of the SDK's, the package's own names included."""
    if name.startswith(UNTYPED):
        return False
    return name.startswith(tuple(f"{module}." for module in SDK)) or name.count(".") == 1


def main() -> int:
    """Print what is not known; the exit code."""
    programs = Path(sys.executable).parent
    # pyright finds the package through the interpreter that is first on the path.
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = [str(programs / "pyright"), "--verifytypes", "reefknot", "--ignoreexternal", "--outputjson"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own type checker
    symbols = json.loads(ended.stdout)["typeCompleteness"]["symbols"]
    wanted = [symbol for symbol in symbols if symbol["isExported"] and is_sdk(symbol["name"])]
    unknown = [symbol for symbol in wanted if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]]
    for symbol in unknown:
        problems = "; ".join(found["message"].splitlines()[0] for found in symbol["diagnostics"])
        sys.stdout.write(f"{symbol['name']}: {problems}\n")
    sys.stdout.write(f"{len(wanted) - len(unknown)} of {len(wanted)} public names of the SDK have a known type\n")
    return 1 if unknown or not wanted else 0


if __name__ == "__main__":
    sys.exit(main())
