"""Puts a configuration together: defaults < file < environment < command line.

Every value keeps its origin, so that ``reefknot config show`` can tell where it came from, and
every problem is collected, so that one start shows all of them. Nothing is printed here: what
the operator should know is in ``Loaded.notices``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from reefknot.config.file import read_file
from reefknot.config.keys import PREFIX, Key, all_keys
from reefknot.config.schema import Config
from reefknot.config.secret import Secret, mask
from reefknot.errors import ConfigError

_DEFAULT = "default"

_DATA_EXPIRE, _FINISHED_DATA_EXPIRE = "Store.DataExpire", "Store.FinishedDataExpire"

#: Variables with our prefix that are read elsewhere; two are settings of Django in an environment shared with us.
_OTHER_VARIABLES = frozenset(
    {"REEFKNOT_FAILPOINTS", "REEFKNOT_WORKER", "REEFKNOT_BARRIER_TABLE", "REEFKNOT_SHOW_ERRORS"}
)

#: Variables that Kubernetes sets in a namespace with a service called reefknot, or reefknot-something.
_OF_THE_PLATFORM = re.compile(
    r"REEFKNOT_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
#: And one whose name could be a setting's; its value could not.
_PORT_OF_THE_PLATFORM, _ADDRESS = re.compile(r"REEFKNOT_(?:\w+_)?PORT"), re.compile(r"(?:tcp|udp|sctp)://.*")


class Loaded(msgspec.Struct, frozen=True):
    """A configuration with the story of how it came about.

    Attributes:
        config: the settings.
        origins: where each setting came from; a key that is missing has its default.
        notices: lines the operator should read; none holds a secret.
    """

    config: Config
    origins: dict[str, str]
    notices: tuple[str, ...] = ()

    def origin(self, name: str) -> str:
        """Where the setting with this YAML path came from, for example ``environment HTTP_PORT``."""
        return self.origins.get(name, _DEFAULT)


class _Found(msgspec.Struct, frozen=True):
    """A raw value and where it stood."""

    raw: str
    origin: str


def load(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
) -> Loaded:
    """Read the settings.

    Args:
        file: the YAML file, if there is one.
        environ: the environment variables; empty ones count as not set.
        flags: values from the command line by YAML path, for example ``{"HttpPort": "8080"}``.

    Raises:
        ConfigError: at least one setting is wrong; the text names each with its origin.
    """
    keys = all_keys()
    environ = {name: value for name, value in (environ or {}).items() if value and not _is_of_the_platform(name, value)}
    problems = _unknown_variables(keys, environ)
    from_file = read_file(file, keys, problems) if file else {}
    winners: dict[str, _Found] = {}
    notices: list[str] = []
    for key in keys:
        layers = [
            _Found(from_file[key.name], f"file {file}") if key.name in from_file else None,
            _from_environment(key, environ, problems),
            _Found(flags[key.name], "command line") if flags and key.name in flags else None,
        ]
        found = [layer for layer in layers if layer is not None]
        if found:
            winners[key.name] = found[-1]
        if layers[0] and layers[1] and layers[0].raw != layers[1].raw:
            notices.append(_conflict(key, layers[1], layers[0]))
    values = {key.name: _convert(key, winners[key.name], problems) for key in keys if key.name in winners}
    if problems:
        raise ConfigError("\n".join(problems))
    origins = {name: found.origin for name, found in winners.items()}
    config = _with_expiry_of_dtm(_build(keys, values), origins)
    notices += _advice(config, keys, origins)
    return Loaded(config, origins, tuple(notices))


def _from_environment(key: Key, environ: Mapping[str, str], problems: list[str]) -> _Found | None:
    for variable in key.variables:
        file_variable = f"{variable}_FILE"
        if key.secret and file_variable in environ:
            if variable in environ:
                problems.append(f"{key.name}: both {variable} and {file_variable} are set; remove one")
            path = environ[file_variable]
            try:
                text = Path(path).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "not UTF-8 text"
                problems.append(f"{key.name}: cannot read {path} named by {file_variable}: {reason}")
                return None
            return _Found(text.rstrip("\r\n"), f"environment {file_variable}")
        if variable in environ:
            return _Found(environ[variable], f"environment {variable}")
    return None


def _convert(key: Key, found: _Found, problems: list[str]) -> Any:
    raw = found.raw
    if isinstance(key.default, Secret):
        return type(key.default)(raw)
    try:
        value = msgspec.convert(raw, key.type, strict=False)
        if key.json:
            msgspec.json.decode(value, type=dict[str, Any])
    except msgspec.DecodeError as error:
        # What should be JSON and is not may hold a password in any form, so it is not quoted.
        expected, got = (
            ("expected a JSON object", "something else")
            if key.json
            else (_expectation(key, str(error)), mask(repr(raw)))
        )
        problems.append(f"{key.name}: {expected}, got {got} ({found.origin})")
        return None
    return value


def _expectation(key: Key, error: str) -> str:
    """What the key takes, in words; ``error`` is the decoder's own text."""
    info = msgspec.inspect.type_info(key.type)
    if isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    if isinstance(info, msgspec.inspect.LiteralType):
        return f"expected one of {', '.join(str(value) for value in info.values)}"
    if isinstance(info, msgspec.inspect.IntType) and info.ge is not None and info.le is not None:
        return f"expected a whole number from {info.ge} to {info.le}"
    if isinstance(info, msgspec.inspect.IntType):
        return "expected a whole number"
    if isinstance(info, msgspec.inspect.StrType) and info.pattern:
        return f"expected {key.meaning}"
    return error[:1].lower() + error[1:].replace("`", "")


def _conflict(key: Key, winner: _Found, loser: _Found) -> str:
    if key.secret:
        return f"{key.name}: {winner.origin} overrides another value in {loser.origin}"
    return f"{key.name}: {winner.origin} ({mask(winner.raw)}) overrides {loser.origin} ({mask(loser.raw)})"


def _with_expiry_of_dtm(config: Config, origins: dict[str, str]) -> Config:
    """DTM's embedded store keeps finished transactions for ``DataExpire``; 0 or less is for ever."""
    embedded = config.store.location().reveal().startswith("sqlite://")
    if not embedded or _DATA_EXPIRE not in origins or _FINISHED_DATA_EXPIRE in origins:
        return config
    origins[_FINISHED_DATA_EXPIRE] = f"{_DATA_EXPIRE}, {origins[_DATA_EXPIRE]}"
    store = msgspec.structs.replace(config.store, finished_data_expire=max(0, config.store.data_expire))
    return msgspec.structs.replace(config, store=store)


def _build(keys: tuple[Key, ...], values: Mapping[str, Any]) -> Config:
    top: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {}
    for key in keys:
        if key.name in values:
            target = top if len(key.path) == 1 else sections.setdefault(key.path[0], {})
            target[key.path[-1]] = values[key.name]
    plain = Config()
    for name, changes in sections.items():
        top[name] = msgspec.structs.replace(getattr(plain, name), **changes)
    return msgspec.structs.replace(plain, **top)


def _advice(config: Config, keys: tuple[Key, ...], origins: Mapping[str, str]) -> list[str]:
    lines = [
        f"{key.name}: {key.effect} ({origins[key.name]})"
        for key in keys
        if key.effect and key.name in origins and key.read(config) != key.default
    ]
    if config.store.url and "Store.Driver" in origins:
        lines.append(f"Store.Driver: Store.Url ({origins['Store.Url']}) decides, {config.store.driver} is not used")
    elif config.store.driver == "boltdb":
        lines.append(f"Store.Driver: boltdb means the embedded store here, which is {config.store.location()}")
    elif config.store.driver in ("sqlite", "memory") and "Store.Host" in origins:
        lines.append(f"Store.Host: not used, as Store.Driver is {config.store.driver} ({origins['Store.Host']})")
    if _DATA_EXPIRE in origins and max(0, config.store.data_expire) != config.store.finished_data_expire:
        reason = (
            f"{_FINISHED_DATA_EXPIRE} is set" if _FINISHED_DATA_EXPIRE in origins else "it is for the embedded store"
        )
        lines.append(
            f"{_DATA_EXPIRE}: not used, as {reason} ({origins[_DATA_EXPIRE]}); "
            f"finished transactions are kept for {config.store.finished_data_expire} s ({_FINISHED_DATA_EXPIRE})"
        )
    if config.retry_interval < 10:
        lines.append(f"RetryInterval: {config.retry_interval} is less than DTM's minimum of 10; meant for tests")
    if config.timeout_to_fail < config.retry_interval:
        lines.append(
            f"TimeoutToFail: {config.timeout_to_fail} is less than RetryInterval ({config.retry_interval}): "
            "transactions time out before their first retry"
        )
    if config.retry_interval_max < config.retry_interval:
        lines.append(
            f"RetryIntervalMax: {config.retry_interval_max} is less than RetryInterval "
            f"({config.retry_interval}), which is used instead"
        )
    return lines


def _unknown_variables(keys: tuple[Key, ...], environ: Mapping[str, str]) -> list[str]:
    """A line for each variable with our prefix that sets nothing: the setting it means would keep its default."""
    known = {variable for key in keys for variable in key.variables if variable.startswith(PREFIX)}
    known |= {f"{PREFIX}{key.env}_FILE" for key in keys if key.secret}
    lines = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known | _OTHER_VARIABLES:
            close = get_close_matches(name.removeprefix(PREFIX), [one.removeprefix(PREFIX) for one in known], n=1)
            hint = f": did you mean {PREFIX}{close[0]}?" if close else "; `reefknot config keys` lists all"
            lines.append(f"unknown environment variable {name}{hint}")
    return lines


def _is_of_the_platform(name: str, value: str) -> bool:
    if not name.startswith(PREFIX):
        return False
    if _OF_THE_PLATFORM.fullmatch(name):
        return True
    return bool(_PORT_OF_THE_PLATFORM.fullmatch(name) and _ADDRESS.fullmatch(value))
