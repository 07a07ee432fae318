"""Write the synchronous twin of every asynchronous module of the SDK, or check that it is current.

Each ``src/reefknot/**/_async/NAME.py`` has a twin ``_sync/NAME.py`` beside it, made by these rules
and nothing else: ``async`` and ``await`` go, ``AsyncThing`` becomes ``Thing``, ``async_thing`` becomes
``thing``, ``Awaitable[T]`` becomes ``T``. Strings and comments follow the same rules, so that docstrings
read right in both.

    python scripts/twins.py            # write
    python scripts/twins.py --check    # exit with 1 and the names of what is not current
"""

# ruff: noqa: INP001 - a script, no part of a package
from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOTE = "# Written by scripts/twins.py from {source}: change that file, then `make twins`.\n"

WORDS = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "AbstractAsyncContextManager": "AbstractContextManager",
    "StopAsyncIteration": "StopIteration",
    "aclose": "close",
    "asynccontextmanager": "contextmanager",
    "_async": "_sync",
}
#: Taken out with the blank behind them.
GONE = {"async", "await"}
#: ``Awaitable[T]`` becomes ``T``.
UNWRAPPED = {"Awaitable"}
TEXT_RULES = (
    (re.compile(r"\basync (?=with |for |def )|\bawait (?=[a-z_]+[.(])"), ""),
    (re.compile(r"\bAsync(?=[A-Z])"), ""),
    # What only concerns coroutines needs no excuse in the twin.
    (re.compile(r"# noqa: ASYNC\d+ - .*"), ""),
)


def twin(source: str, name: str) -> str:
    """The synchronous form of a module.

    Args:
        source: the asynchronous module's text.
        name: the asynchronous module's path, for the note at the top.
    """
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    edits: list[tuple[int, int, str]] = []
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    for number, token in enumerate(tokens):
        begin, end = (starts[row - 1] + column for row, column in (token.start, token.end))
        if token.type == tokenize.NAME and token.string in GONE:
            follower = tokens[number + 1]
            edits.append((begin, starts[follower.start[0] - 1] + follower.start[1], ""))
        elif token.type == tokenize.NAME and token.string in UNWRAPPED and tokens[number + 1].string == "[":
            closing = _closing(tokens, number + 1)
            edits.append((begin, end + 1, ""))
            position = starts[closing.start[0] - 1] + closing.start[1]
            edits.append((position, position + 1, ""))
        elif token.type == tokenize.NAME:
            edits.append((begin, end, _word(token.string)))
        elif token.type in (tokenize.STRING, tokenize.COMMENT):
            edits.append((begin, end, _text(token.string)))
    text = source
    for begin, end, replacement in sorted(edits, reverse=True):
        text = text[:begin] + replacement + text[end:]
    return _tidy(NOTE.format(source=name) + text)


def _word(word: str) -> str:
    return WORDS.get(word) or re.sub(r"^(_?)(?:Async(?=[A-Z])|async_(?=[a-z]))", r"\1", word)


def _text(text: str) -> str:
    for pattern, replacement in TEXT_RULES:
        text = pattern.sub(replacement, text)
    return text


def _closing(tokens: list[tokenize.TokenInfo], opening: int) -> tokenize.TokenInfo:
    """The bracket that closes the one at this place."""
    depth = 0
    for token in tokens[opening:]:
        depth += {"[": 1, "]": -1}.get(token.string, 0)
        if not depth:
            return token
    raise ValueError("a bracket is not closed")


def _tidy(text: str) -> str:
    """Sort the imports anew, drop those that only the asynchronous form needs, and format."""
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check", "--quiet", "--fix", "--exit-zero", "--select", "I,F401"], ["format", "--quiet"]):
        arguments = [*ruff, *command, "--stdin-filename", str(ROOT / "src/reefknot/twin.py"), "-"]
        text = subprocess.run(arguments, input=text, capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own linter
    return text


def main(arguments: list[str]) -> int:
    """Write or check every twin; the exit code."""
    stale = []
    wanted = set()
    for source in sorted((ROOT / "src/reefknot").rglob("_async/*.py")):
        target = source.parents[1] / "_sync" / source.name
        wanted.add(target)
        text = twin(source.read_text("utf-8"), str(source.relative_to(ROOT)))
        if not target.exists() or target.read_text("utf-8") != text:
            stale.append(target)
            if "--check" not in arguments:
                target.parent.mkdir(exist_ok=True)
                target.write_text(text, "utf-8")
    orphans = [path for path in (ROOT / "src/reefknot").rglob("_sync/*.py") if path not in wanted]
    for path in stale:
        hint = ": not what its source says; run `make twins`" if "--check" in arguments else ""
        sys.stdout.write(f"{path.relative_to(ROOT)}{hint}\n")
    for path in orphans:
        sys.stdout.write(f"{path.relative_to(ROOT)}: has no source; delete it\n")
    return 1 if orphans or (stale and "--check" in arguments) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
