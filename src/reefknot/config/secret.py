"""Values that must never be printed, and how text that may contain some is shown."""

from __future__ import annotations

import re

#: What is shown in place of something secret.
MASK = "***"

# Query parameters that carry a secret in a URL.
_PARAMETER = re.compile(r"(?i)([?&](?:[^=&#]*(?:password|passwd|pwd|secret|token|key|sign)[^=&#]*)=)[^&#\s]+")
# The password in ``scheme://user:password@host``: up to the last @ before the path, as it may contain one.
_PASSWORD = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://[^/?#\s:]*:)[^/?#\s]*(?=@)")


# A JSON member that carries a secret.
_MEMBER = re.compile(r'(?i)("[^"]*(?:password|passwd|pwd|secret|token)[^"]*"\s*:\s*)"(?:[^"\\]|\\.)*"')


def mask(text: str) -> str:
    """The text with passwords and tokens masked that stand in URLs or JSON."""
    for pattern, replacement in ((_PASSWORD, MASK), (_PARAMETER, MASK), (_MEMBER, f'"{MASK}"')):
        text = pattern.sub(rf"\g<1>{replacement}", text)
    return text


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
        return mask(self._value)
