"""One transaction of each kind, as its client runs it."""

import time

#: No transaction of a client that is at work runs into its time limit.
LONG = {"timeout_to_fail": 600, "retry_interval": 1, "request_timeout": 2}
SHORT = {"timeout_to_fail": 1, "retry_interval": 1, "request_timeout": 2}


def _saga(load, gid, first, second, again=()):
    steps = [
        {"action": load.url(first), "compensate": load.url("/one-undo")},
        {"action": load.url(second), "compensate": load.url("/two-undo")},
    ]
    fields = {"trans_type": "saga", "steps": steps, "payloads": ["{}", "{}"], "retry_interval": 1, "request_timeout": 2}
    # A repetition that comes after the rollback began is told so.
    load.ask(gid, "submit", fields, again=again, ends="" if again else "succeed")


def saga(load, gid):
    _saga(load, gid, "/one", "/two")


def saga_slow(load, gid):
    _saga(load, gid, "/slow", "/slow")


def saga_ongoing(load, gid):
    _saga(load, gid, "/one", "/ongoing")


def saga_refused(load, gid):
    _saga(load, gid, "/slow", "/refuse", again=(409,))


def _msg(load, gid, verb, options, ends=""):
    steps = [{"action": load.url("/one")}, {"action": load.url("/slow")}]
    fields = {"trans_type": "msg", "steps": steps, "payloads": ["{}", "{}"], "query_prepared": load.url("/query")}
    return load.ask(gid, verb, {**fields, **options}, ends=ends, again=(409,) if options is SHORT else ())


def msg(load, gid):
    if _msg(load, gid, "prepare", LONG) == 200:
        _msg(load, gid, "submit", LONG, ends="succeed")


def msg_asked_back(load, gid):
    """The sender commits and dies before it submits."""
    _msg(load, gid, "prepare", SHORT, ends="succeed")


def _two_phase(load, gid, mode, decision, options=LONG):
    late = (409,) if options is SHORT else ()
    fields = {"trans_type": mode, **options}
    if load.ask(gid, "prepare", fields, ends="" if decision else "failed", also=late) != 200:
        return
    for branch_id, path in (("01", "/one"), ("02", "/slow")):
        urls, ops = {"url": load.url(path)}, ("rollback", "commit")
        if mode == "tcc":
            urls, ops = {"confirm": load.url(path), "cancel": load.url(path)}, ("cancel", "confirm")
        branch = {"trans_type": mode, "branch_id": branch_id, **urls}
        rows = tuple((branch_id, op) for op in ops)
        if load.ask(gid, "registerBranch", branch, rows=rows, also=late) != 200:
            return
        load.effects.apply(gid, branch_id, "try" if mode == "tcc" else "action")
    if decision:
        # A repetition of an abort that comes after the rollback ended is told so.
        ends, again = {"submit": ("succeed", ()), "abort": ("failed", (409,))}[decision]
        load.ask(gid, decision, {"trans_type": mode}, ends=ends, again=again)


def tcc_confirm(load, gid):
    _two_phase(load, gid, "tcc", "submit")


def tcc_cancel(load, gid):
    _two_phase(load, gid, "tcc", "abort")


def tcc_timeout(load, gid):
    """The client dies before it decides."""
    _two_phase(load, gid, "tcc", "", SHORT)


def xa_commit(load, gid):
    _two_phase(load, gid, "xa", "submit")


def xa_rollback(load, gid):
    _two_phase(load, gid, "xa", "abort")


def workflow(load, gid, *, resumed=False, dies=False):
    """Two recorded steps and a reported end; ``resumed`` when a node woke it up.

    The client and the one that was woken up may run at the same time, so one is told that the other
    has ended it.
    """
    if not resumed:
        fields = {"trans_type": "workflow", "query_prepared": load.url("/workflow"), **LONG}
        if load.ask(gid, "prepareWorkflow", {**fields, "custom_data": '{"name":"transfer","data":null}'}) != 200:
            return
    for branch_id in ("01", "02"):
        load.effects.apply(gid, branch_id, "action")
        step = {"trans_type": "workflow", "branch_id": branch_id, "op": "action", "status": "succeed", "data": "{}"}
        if load.ask(gid, "registerBranch", step, rows=((branch_id, "action"),), also=(409,)) != 200 or dies:
            return
        time.sleep(0.02)
    end = {"trans_type": "workflow", "req_extra": {"status": "succeed"}}
    load.ask(gid, "submit", end, ends="succeed", also=(409,))


def workflow_woken(load, gid):
    """The client dies after its first step."""
    workflow(load, gid, dies=True)


KINDS = {
    "saga": saga,
    "saga-slow": saga_slow,
    "saga-ongoing": saga_ongoing,
    "saga-refused": saga_refused,
    "msg": msg,
    "msg-asked-back": msg_asked_back,
    "tcc-confirm": tcc_confirm,
    "tcc-cancel": tcc_cancel,
    "tcc-timeout": tcc_timeout,
    "xa-commit": xa_commit,
    "xa-rollback": xa_rollback,
    "workflow": workflow,
    "workflow-woken": workflow_woken,
}
