"""The table of all settings for the documentation, made from the settings themselves."""

from __future__ import annotations

from reefknot.config.keys import all_keys


def markdown_table() -> str:
    """Every setting as a row: YAML key, environment variable, default, meaning."""
    lines = ["| YAML key | Environment | Default | Meaning |", "|---|---|---|---|"]
    for key in all_keys():
        default = str(key.default)
        meaning = f"{key.meaning}; {key.effect}" if key.effect else key.meaning
        shown = f"`{default}`" if default else "empty"
        lines.append(f"| `{key.name}` | `{key.variables[-1]}` | {shown} | {meaning} |")
    return "\n".join(lines) + "\n"
