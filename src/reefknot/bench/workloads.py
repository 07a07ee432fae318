"""What the clients of a measurement send for one transaction."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

#: Stands for the transaction's gid in a template; as long as one.
GID = "(((((((((( gid )))))))"

_PAYLOAD = '{"amount":30,"transInResult":"","transOutResult":""}'


class Template(msgspec.Struct, frozen=True):
    """One request: the path and the body, in which ``GID`` stands for the gid."""

    path: str
    body: str


def _post(verb: str, fields: Mapping[str, object]) -> Template:
    return Template(f"/api/dtmsvr/{verb}", msgspec.json.encode({"gid": GID, **fields}).decode())


def saga(base: str, *, wait: bool = False, action: str = "/TransOut") -> tuple[Template, ...]:
    """A saga of two branches.

    Args:
        base: the business service; empty for branches without a URL, which the server skips.
        wait: whether the answer comes when the saga is finished.
        action: the path of the first branch.
    """
    steps = [
        {"action": base + action if base else "", "compensate": f"{base}/TransOutRevert" if base else ""},
        {"action": f"{base}/TransIn" if base else "", "compensate": f"{base}/TransInRevert" if base else ""},
    ]
    fields: dict[str, object] = {"trans_type": "saga", "steps": steps, "payloads": [_PAYLOAD, _PAYLOAD]}
    return (_post("submit", fields | {"wait_result": True} if wait else fields),)


def msg(base: str) -> tuple[Template, ...]:
    """A message for two receivers."""
    steps = [{"action": f"{base}/TransOut"}, {"action": f"{base}/TransIn"}]
    return (_post("submit", {"trans_type": "msg", "steps": steps, "payloads": [_PAYLOAD, _PAYLOAD]}),)


def tcc(base: str) -> tuple[Template, ...]:
    """A TCC of two branches as the server sees it: prepare, two registrations, submit."""
    registrations = [
        _post(
            "registerBranch",
            {
                "trans_type": "tcc",
                "branch_id": branch_id,
                "status": "prepared",
                "data": _PAYLOAD,
                "confirm": f"{base}/{name}Confirm",
                "cancel": f"{base}/{name}Cancel",
            },
        )
        for branch_id, name in (("01", "TransOut"), ("02", "TransIn"))
    ]
    return (_post("prepare", {"trans_type": "tcc"}), *registrations, _post("submit", {"trans_type": "tcc"}))


def named(name: str, base: str) -> tuple[Template, ...]:
    """The requests of a workload, by its name in ``--rows``.

    Raises:
        KeyError: there is no such workload.
    """
    made = {
        "saga": lambda: saga(base),
        "empty": lambda: saga(""),
        "wait": lambda: saga(base, wait=True),
        "msg": lambda: msg(base),
        "tcc": lambda: tcc(base),
    }
    return made[name]()
