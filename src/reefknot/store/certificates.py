"""What is wrong with a server's certificate, in words: waiting does not mend it."""

from __future__ import annotations

import ssl


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
