"""What other people's code may build on, as their type checker sees it. Checked by pyright, never run."""

from collections.abc import Mapping
from pathlib import Path

import reefknot
from reefknot.callers.base import BranchCall, Caller
from reefknot.clock import Clock, SystemClock
from reefknot.config import Config, Secret, load
from reefknot.errors import ConfigError, Invalid, ReefknotError
from reefknot.failpoints import disarmed
from reefknot.model import Failure, Ongoing, Outcome, Status, Success, Unknown
from reefknot.store import open_store
from reefknot.store.base import Created, NewTransaction, Record, Store

VERSION: str = reefknot.__version__


def settings(file: Path, environ: Mapping[str, str]) -> tuple[Config, list[str]]:
    loaded = load(file, environ, {"HttpPort": "8080"})
    password: Secret = loaded.config.store.password
    text: str = password.reveal()
    port: int = loaded.config.http_port
    return loaded.config, [loaded.origin("HttpPort"), *loaded.notices, text, str(port)]


class StandingStillClock:
    """A clock of one's own needs no base class."""

    def now_ms(self) -> int:
        return 0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None: ...


class CarrierPigeonCaller:
    """A caller of one's own needs no base class."""

    def accepts(self, protocol: str, url: str) -> bool:
        return protocol == "pigeon" and url.startswith("pigeon://")

    def check(self, url: str) -> str:
        return ""

    async def call(self, call: BranchCall) -> Outcome:
        return Unknown("no pigeon came back", unreachable=True) if call.payload else Success()

    async def close(self) -> None: ...


caller: Caller = CarrierPigeonCaller()
clocks: list[Clock] = [StandingStillClock(), SystemClock()]


def words(outcome: Outcome) -> str:
    match outcome:
        case Success():
            return "done"
        case Failure(reason):
            return reason
        case Ongoing(note):
            return note
        case Unknown(error):
            return error


async def store_one(url: str) -> int:
    store: Store = await open_store(url, clock=SystemClock(), failpoints=disarmed())
    try:
        made: Created | Record = await store.create(NewTransaction("g", "saga", Status.SUBMITTED, b"", b""))
        return made.id
    except Invalid as error:
        return len(error.field) + error.status
    except ConfigError as error:
        problem: ReefknotError = error
        raise problem from None
    finally:
        await store.close()
