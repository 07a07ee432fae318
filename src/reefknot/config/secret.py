"""Values that must never be printed, and how text that may contain some is shown."""

from __future__ import annotations

import json
import re
from typing import Any

#: What is shown in place of something secret.
MASK = "***"

# What follows hides rather too much than too little: a password may hold any character, also those that end
# a part of a URL.

# Query parameters that carry a secret in a URL: up to the next one.
_PARAMETER = re.compile(r"(?i)([?&][^=&]*(?:password|passwd|pwd|secret|token|key|sign)[^=&]*=)[^&]+")
# The password in ``scheme://user:password@host``: from the first colon to the last @ of the whole text.
_PASSWORD = re.compile(r"(?s)(://[^:]*:).*(?=@)")
# The same where the scheme was forgotten.
_BARE_PASSWORD = re.compile(r"(?s)^([^:]*:).*(?=@)")

_NAMES = "password|passwd|pwd|secret|token"
_SECRET_NAME = re.compile(f"(?i){_NAMES}")
# A member with such a name in a text that is nearly JSON; in JSON itself the members are looked at one by one.
_MEMBER = re.compile(
    rf"""(?i)((["'])(?:(?!\2).)*(?:{_NAMES})(?:(?!\2).)*\2\s*:\s*)"""
    r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^,}\]]+)"""
)


def mask(text: str) -> str:
    """The text with passwords and tokens masked that stand in a URL or in JSON.

    More may be hidden than need be: whatever lies between a login's first colon and the last ``@``.
    """
    if text.lstrip().startswith(("{", "[")):
        try:
            content = json.loads(text)
        except ValueError:
            return _mask_text(_MEMBER.sub(rf'\g<1>"{MASK}"', text))
        masked = _mask_members(content)
        return text if masked == content else json.dumps(masked, ensure_ascii=False)
    return _mask_text(_MEMBER.sub(rf'\g<1>"{MASK}"', text))


def _mask_text(text: str) -> str:
    # Both are looked for in the text as it is: what one of them hid could be what the other one looks for.
    hidden = sorted(
        (match.end(1), match.end()) for pattern in (_PASSWORD, _PARAMETER) for match in pattern.finditer(text)
    )
    shown, done = "", 0
    for start, end in hidden:
        if start >= done:
            shown += text[done:start] + MASK
        done = max(done, end)
    return shown + text[done:]


def _mask_members(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: MASK if _SECRET_NAME.search(name) else _mask_members(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_mask_members(inner) for inner in value]
    return mask(value) if isinstance(value, str) else value


class Secret:
    """A text that shows itself only when asked to.

    It is no ``str`` on purpose: formatting, logging and JSON encoders get the mask or an error,
    never the value.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself."""
        return self._value

    def __str__(self) -> str:
        return MASK if self._value else ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


class SecretUrl(Secret):
    """A URL of which only the password and token parameters are hidden."""

    __slots__ = ()

    def __str__(self) -> str:
        masked = mask(self._value)
        return masked if "://" in masked else _BARE_PASSWORD.sub(rf"\g<1>{MASK}", masked)
