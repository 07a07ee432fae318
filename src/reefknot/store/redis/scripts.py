"""The Lua scripts of the store: every change is one of them, so it happens whole or not at all."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files

_INCLUDE = re.compile(r"^-- include: (\w+)$", re.MULTILINE)
#: Beginnings of other scripts.
_PARTS = frozenset({"prelude", "next_id", "candidates"})


class Script:
    """One script: its text, and the SHA1 by which a server that has it runs it.

    Args:
        name: the file's name without ``.lua``.
        text: the whole program.
    """

    __slots__ = ("name", "sha", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def load_scripts() -> dict[str, Script]:
    """The scripts in the folder ``lua`` by name, each with the parts it includes before it."""
    folder = files(__package__).joinpath("lua")
    texts = {
        file.name.removesuffix(".lua"): file.read_text("utf-8")
        for file in folder.iterdir()
        if file.name.endswith(".lua")
    }
    return {
        name: Script(name, "\n".join(texts[part] for part in ("prelude", *_INCLUDE.findall(text), name)))
        for name, text in texts.items()
        if name not in _PARTS
    }
