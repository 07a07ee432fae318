"""The texts that continue a listing: made, read and refused alike by every store."""

from __future__ import annotations


def encode_position(created_ms: int, row_id: int) -> str:
    """The position after a row of a transaction listing."""
    return f"{created_ms}.{row_id}"


def decode_position(position: str) -> tuple[int, int]:
    """Creation time and id of the row that a position stands for.

    Raises:
        ValueError: ``encode_position`` did not make it.
    """
    created_ms, _, row_id = position.partition(".")
    for part in (created_ms, row_id):
        if not (part.isascii() and part.isdecimal() and len(part) < 19):
            raise ValueError(f"unknown position {position!r}")
    return int(created_ms), int(row_id)


def encode_key_position(key: str) -> str:
    """The position after an entry of a key listing; never empty, as a key may be."""
    return "=" + key


def decode_key_position(position: str) -> str:
    """The key that a position stands for.

    Raises:
        ValueError: ``encode_key_position`` did not make it.
    """
    if not position.startswith("="):
        raise ValueError(f"unknown position {position!r}")
    return position[1:]
