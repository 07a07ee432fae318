"""Reads the YAML file: DTM's keys and ours, flat values only."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from reefknot.config.keys import Key
from reefknot.config.secret import mask
from reefknot.errors import ConfigError


class _TextLoader(yaml.SafeLoader):
    """Leaves every scalar as the text that stands in the file, except an unquoted null; refuses a repeated key.

    So ``Password: 0123`` and ``TimeZoneOffset: +8`` keep their form, and a quoted number is the
    same as a bare one; the settings' own types decide what a text means.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own name and type

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT002 - PyYAML's
        # PyYAML takes the last one: half of a file could be without effect.
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in lines:
                    problem = f'the key "{mask(key.value)}" stands in line {lines[key.value]} already'
                    raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
                lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


_TextLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])


def read_file(path: Path, keys: tuple[Key, ...], problems: list[str]) -> dict[str, str]:
    """Read a configuration file.

    Args:
        path: the file.
        keys: the settings there are.
        problems: gets one line for each entry that cannot be used.

    Returns:
        Values by YAML path; an empty entry counts as not set.

    Raises:
        ConfigError: the file cannot be read or is no YAML mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_TextLoader)  # noqa: S506 - a SafeLoader that makes only text
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration file {path} is no valid YAML: {_place(error)}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"the configuration file {path} must hold keys and values")
    names = {key.name for key in keys}
    sections = {name.split(".")[0] for name in names if "." in name}
    values: dict[str, str] = {}
    for name, value in content.items():
        if name in sections:
            if isinstance(value, dict):
                _take({f"{name}.{inner}": item for inner, item in value.items()}, names, path, values, problems)
            elif value is not None:
                # Not quoted: it may be a store's URL with its password.
                kind = "a list" if isinstance(value, list) else "one value"
                problems.append(f"{name}: expected keys below it, got {kind} (file {path})")
        else:
            _take({str(name): value}, names | sections, path, values, problems)
    return values


def _take(
    entries: Mapping[str, object], names: set[str], path: Path, values: dict[str, str], problems: list[str]
) -> None:
    for name, value in entries.items():
        if name not in names:
            problems.append(f'unknown key "{mask(name)}" in {path}{_suggestion(name, names)}')
        elif isinstance(value, str):
            values[name] = value
        elif value is not None:
            problems.append(
                f"{name}: expected one value, got a {'list' if isinstance(value, list) else 'mapping'} (file {path})"
            )


def _suggestion(name: str, names: set[str]) -> str:
    """A similar name; first with the same last part, as a key under the wrong heading is common."""
    last = name.rpartition(".")[2].lower()
    by_case = {candidate.lower(): candidate for candidate in sorted(names)}
    moved = [candidate for candidate in sorted(names) if candidate.rpartition(".")[2].lower() == last]
    close = moved or [by_case[match] for match in get_close_matches(name.lower(), by_case, n=1, cutoff=0.6)]
    return f': did you mean "{close[0]}"?' if close else "; `reefknot config keys` lists all"


def _place(error: Exception) -> str:
    """What is wrong and where, without quoting the file: its lines may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or type(error).__name__
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else str(problem)
