"""The list of all settings with the names they have in a file and in the environment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

import msgspec

from reefknot.config.schema import Config
from reefknot.config.secret import Secret, mask

#: What our own names of environment variables begin with.
PREFIX = "REEFKNOT_"

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Key(msgspec.Struct, frozen=True):
    """One setting.

    Attributes:
        name: the YAML path, for example ``Store.MaxOpenConns``.
        path: the attributes that lead to it in a ``Config``.
        env: the environment variable by DTM's rule, without our prefix.
        type: what it holds, with its range.
        default: the value when nobody sets it.
        meaning: one sentence for people.
        ours: DTM does not have it.
        effect: a note if it changes nothing; else empty.
        json: the text must be a JSON object.
    """

    name: str
    path: tuple[str, ...]
    env: str
    type: Any
    default: object
    meaning: str
    ours: bool = False
    effect: str = ""
    json: bool = False

    @property
    def secret(self) -> bool:
        """Whether the value is hidden and may come from a file."""
        return isinstance(self.default, Secret)

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that set it, the strongest first.

        A key of our own is read under its bare name only if that is ``STORE_URL``: names such as
        ``HTTP_HOST`` mean something else to other programs.
        """
        bare = not self.ours or self.env == "STORE_URL"
        return (PREFIX + self.env, self.env) if bare else (PREFIX + self.env,)

    def read(self, config: Config) -> object:
        """The value of this setting in a configuration."""
        value: object = config
        for attribute in self.path:
            value = getattr(value, attribute)
        return value

    def show(self, config: Config) -> str:
        """The value as text that is safe to print."""
        return mask(str(self.read(config)))


def env_name(name: str) -> str:
    """DTM's rule for the environment variable of a YAML path.

    Levels are joined with ``_``, another ``_`` stands before each new word, all in capitals:
    ``MicroService.EndPoint`` becomes ``MICRO_SERVICE_END_POINT``.
    """
    return "_".join(_WORD.sub("_", level) for level in name.split(".")).upper()


def all_keys() -> tuple[Key, ...]:
    """Every setting, in the order of the documentation."""
    return tuple(_keys(Config, "", ()))


def _keys(section: type[msgspec.Struct], prefix: str, path: tuple[str, ...]) -> Iterator[Key]:
    for field in msgspec.structs.fields(section):
        name = prefix + field.encode_name
        here = (*path, field.name)
        if get_origin(field.type) is not Annotated:
            yield from _keys(field.type, f"{name}.", here)
            continue
        meta: msgspec.Meta = get_args(field.type)[1]
        yield Key(
            name=name,
            path=here,
            env=env_name(name),
            type=field.type,
            default=field.default,
            meaning=meta.description or "",
            **(meta.extra or {}),
        )
