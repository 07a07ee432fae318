"""What can be found wrong with the settings before anything starts: for the start, and ``reefknot config check``."""

from __future__ import annotations

from pathlib import Path

from reefknot import logs
from reefknot.callers.target import read_target
from reefknot.config import Config
from reefknot.errors import ConfigError
from reefknot.store import belongs_to_one_process


def check_settings(config: Config) -> None:
    """See whether a server with these settings would start, as far as that can be told without starting it.

    Raises:
        ConfigError: at least one setting is wrong; the text has a line for each.
    """
    problems: list[str] = []
    for check in (_check_log, _check_workers, _check_certificates, _check_service_config, _check_web_hook):
        try:
            check(config)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))


def _check_log(config: Config) -> None:
    for file in logs.files(config.log.outputs):
        problem = _unwritable(Path(file))
        if problem:
            raise logs.unusable(file, problem)


def _unwritable(file: Path) -> str:
    """Why nobody could append to a file, in words; makes no file."""
    if not file.exists():
        return "" if file.parent.is_dir() else f"there is no folder {file.parent}"
    try:
        file.open("ab").close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _check_workers(config: Config) -> None:
    if config.workers > 1 and belongs_to_one_process(config.store.location().reveal()):
        raise ConfigError(
            f"Workers: the store {config.store.location()} belongs to one process; use 1, or a database server"
        )


def _check_certificates(config: Config) -> None:
    given = (config.grpc_cert, config.grpc_key, config.grpc_client_ca)
    if not config.grpc_port or not any(given):
        return
    try:
        from reefknot.api.grpc_tls import certificates  # noqa: PLC0415 - imports grpc: a tenth of a second
    except ImportError:
        return  # the start says what to install
    certificates(*given)


def _check_service_config(config: Config) -> None:
    if config.grpc_service_config == Config().grpc_service_config:
        return
    try:
        from reefknot.callers.grpc.trial import service_config_problem  # noqa: PLC0415 - as above
    except ImportError:
        return
    if problem := service_config_problem(config.grpc_service_config):
        raise ConfigError(f"GrpcServiceConfig: gRPC refuses it: {problem}")


def _check_web_hook(config: Config) -> None:
    url = config.alert_web_hook.reveal()
    # The URL may hold a secret, so it is not shown.
    if url and (problem := read_target(url).problem):
        raise ConfigError(f"AlertWebHook: {problem}")
