"""TLS of the gRPC port: certificates from files, read again when the files have changed."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

import grpc

from reefknot.errors import ConfigError

_log = logging.getLogger(__name__)

#: What tells that a file was replaced or written to: its inode, its size and its time in nanoseconds.
Stamp = tuple[tuple[int, int, int], ...]


class Certificates:
    """The server's certificate and key, and the authority whose clients are let in.

    Args:
        certificate: PEM file with the certificate and those that it was signed with.
        key: PEM file with its private key, not encrypted.
        client_authority: PEM file; clients must have a certificate of it. None: clients need none.

    Raises:
        ConfigError: a file cannot be read, or they do not fit together.
    """

    def __init__(self, certificate: Path, key: Path, client_authority: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self._authority = client_authority
        self._stamp = self._stamp_now()
        self._first = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """What a port needs; each new connection gets what the files say then."""
        return grpc.dynamic_ssl_server_credentials(
            self._first,
            self._changed,  # type: ignore[arg-type]  # None is documented and means no change
            require_client_authentication=self._authority is not None,
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """The new content of the files; None, so that the old one stays, if it is the same or cannot be used.

        gRPC calls this before each handshake, in a thread of its own, and one handshake at a time.
        """
        try:
            stamp = self._stamp_now()
            if stamp == self._stamp:
                return None
            configuration = self._read()
        except ConfigError as error:
            # Files are replaced one after the other: the next connection looks again.
            _log.warning("certificates changed and cannot be used yet", extra={"error": str(error)})
            return None
        self._stamp = stamp
        _log.info("certificates read again")
        return configuration

    def _stamp_now(self) -> Stamp:
        try:
            files = [path.stat() for path in (self._certificate, self._key, self._authority) if path]
        except OSError as error:
            raise ConfigError(
                f"GrpcCert, GrpcKey, GrpcClientCa: cannot read {error.filename}: {error.strerror}"
            ) from error
        return tuple((file.st_ino, file.st_size, file.st_mtime_ns) for file in files)

    def _read(self) -> grpc.ServerCertificateConfiguration:
        """What the files say, after a look whether a handshake could use it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except (OSError, ValueError) as error:
            problem = f"cannot be used together ({error})"
            raise ConfigError(f"GrpcCert, GrpcKey: {self._certificate} and {self._key} {problem}") from error
        try:
            if self._authority is not None:
                context.load_verify_locations(self._authority)
            pair = (self._key.read_bytes(), self._certificate.read_bytes())
            authority = self._authority.read_bytes() if self._authority else None
        except (OSError, ValueError) as error:
            raise ConfigError(f"GrpcClientCa: {self._authority} cannot be used ({error})") from error
        return grpc.ssl_server_certificate_configuration([pair], authority)


def certificates(certificate: str, key: str, client_authority: str) -> Certificates | None:
    """The certificates of the settings; None if there are none, so no TLS.

    Raises:
        ConfigError: one is missing, a file cannot be read, or they do not fit together.
    """
    if not (certificate or key or client_authority):
        return None
    for name, value in (("GrpcCert", certificate), ("GrpcKey", key)):
        if not value:
            raise ConfigError(f"{name}: is not set; TLS needs GrpcCert and GrpcKey, and GrpcClientCa only with them")
    return Certificates(Path(certificate), Path(key), Path(client_authority) if client_authority else None)


def _no_password() -> str:
    """Instead of asking at the terminal."""
    raise ValueError("the key is encrypted; give one without a password")
