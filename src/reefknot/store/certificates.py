"""What is wrong with certificates, in words: waiting does not mend it."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path

from reefknot.errors import ConfigError


def refused_certificate(error: BaseException) -> str:
    """Why a certificate was not accepted; empty if the error has another cause.

    Args:
        error: of a connect; its causes are looked at, too.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ssl.SSLCertVerificationError):
            return f"the server's certificate is not accepted: {found.verify_message}"
        found = found.__cause__ or found.__context__
    return ""


def check_files(options: Mapping[str, str], names: Iterable[str]) -> None:
    """See that the files exist that a store URL names; drivers do not say which one is missing.

    Args:
        options: those of the URL.
        names: the options among them that are paths of files; one that is not given is none.

    Raises:
        ConfigError: a file cannot be read; the text names the option and the path.
    """
    for name in names:
        if path := options.get(name, ""):
            try:
                Path(path).open("rb").close()
            except OSError as error:
                raise ConfigError(f"store URL: {name}: cannot read {path}: {error.strerror}") from error
