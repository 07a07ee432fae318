"""The server's log: readable in a terminal, JSON in a container.

The rest of the program uses the standard library's ``logging`` and puts what a line is about into
``extra`` (gid, url, error). Payloads, headers and settings are never logged.
"""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import Processor

from reefknot.errors import ConfigError

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_STREAMS = ("stderr", "stdout")


def configure(level: str, outputs: str, form: str) -> None:
    """Set up logging for this process.

    Args:
        level: ``debug``, ``info``, ``warn`` or ``error``.
        outputs: comma list of ``stderr``, ``stdout`` and file paths.
        form: ``console``, ``json``, or ``auto``: console on a terminal, JSON elsewhere.

    Raises:
        ConfigError: a file cannot be written.
    """
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.format_exc_info,
    ]
    handlers: list[logging.Handler] = []
    for output in _parts(outputs):
        stream = getattr(sys, output) if output in _STREAMS else None
        try:
            handler = logging.StreamHandler(stream) if stream else logging.FileHandler(output)
        except OSError as error:
            raise unusable(output, error.strerror or str(error)) from error
        console = form == "console" or (form == "auto" and stream is not None and stream.isatty())
        last: Processor = (
            structlog.dev.ConsoleRenderer(timestamp_key="ts")
            if console
            else structlog.processors.JSONRenderer(sort_keys=True)
        )
        handler.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=shared,
                processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
            )
        )
        handlers.append(handler)
    logging.basicConfig(level=_LEVELS[level], handlers=handlers, force=True)
    logging.getLogger("uvicorn").setLevel(max(_LEVELS[level], logging.WARNING))


def files(outputs: str) -> list[str]:
    """The paths among the outputs, which are as for ``configure``."""
    return [output for output in _parts(outputs) if output not in _STREAMS]


def unusable(file: str, problem: str) -> ConfigError:
    """The error for a path among the outputs that cannot be written."""
    return ConfigError(
        f"Log.Outputs: cannot write {file} ({problem}); name stderr, stdout or paths that can be written"
    )


def _parts(outputs: str) -> list[str]:
    return [part for part in (part.strip() for part in outputs.split(",")) if part]
