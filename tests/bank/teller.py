"""Where a bank's customers order transfers: one way to do it for each mode.

A customer who hears nothing repeats the order with the same gid, as programs do.
"""

from typing import Any

from reefknot import Failure, GidConflict, Refused, RolledBack, Workflow, Workflows, workflow

#: Seconds after which the server decides about what its starter has left undecided.
LEFT_ALONE_SECONDS = 6
RETRY_SECONDS = 1
#: Seconds after which the server resumes a workflow: as short as a step, so that two runs meet.
RESUME_SECONDS = 2


class Teller:
    """Starts transfers.

    Args:
        client: speaks to the server.
        accounts: of the bank that it works for.
        banks: the URLs of both banks; account n is held by bank n % 2.
        own: the URL of this bank.
    """

    def __init__(self, client, accounts, banks, own):
        self._client = client
        self._accounts = accounts
        self._banks = banks
        self._own = own
        self._transfer = workflow("transfer")(self._work)
        # Of two runs of one workflow, one can be refused for lack of money and the other not, a moment later:
        # what is done in this program is then undone only if that is said.
        self._local_transfer = workflow("local transfer", undo_failed_step=True)(self._work)
        functions = [self._transfer, self._local_transfer]
        self.workflows = Workflows(client, functions, callback=f"{own}/workflow", request_timeout=3)

    def transfer(self, mode, gid, order):
        """Start a transfer.

        Returns:
            ``outcome``: what is known now: ``succeed``, ``submitted``, ``refused``, ``decided`` (before, and only
            the server says how), ``conflict`` (a repetition that differs) or ``unknown``; and ``why``.
        """
        try:
            status = getattr(self, f"_{mode}")(gid, order)
        except (Failure, RolledBack) as error:
            return {"outcome": "refused", "why": error.reason}
        except GidConflict as error:
            return {"outcome": "conflict", "why": error.what}
        except Refused as error:
            return {"outcome": "decided", "why": error.what}
        except Exception as error:  # noqa: BLE001 - everything else leaves it open
            return {"outcome": "unknown", "why": f"{type(error).__name__}: {error}"}
        return {"outcome": status, "why": ""}

    def _url(self, side, order):
        return f"{self._banks[order['from' if side == 'out' else 'to'] % 2]}/{side}"

    def _saga(self, gid, order):
        with self._client.saga(gid, retry_every=RETRY_SECONDS, wait=order["wait"]) as saga:
            for side in ("out", "in"):
                saga.step(self._url(side, order), self._url(side, order), order)
        return saga.outcome.status

    def _tcc(self, gid, order):
        with self._client.tcc(gid, timeout=LEFT_ALONE_SECONDS, retry_every=RETRY_SECONDS) as tcc:
            for side in ("out", "in"):
                url = self._url(side, order)
                tcc.try_(url, confirm=url, cancel=url, data=order)
        return tcc.outcome.status

    def _xa(self, gid, order):
        with self._client.xa(gid, timeout=LEFT_ALONE_SECONDS, retry_every=RETRY_SECONDS) as xa:
            for side in ("out", "in"):
                xa.call(self._url(side, order), order)
        return xa.outcome.status

    def _msg(self, gid, order):
        msg = self._client.msg(gid, timeout=LEFT_ALONE_SECONDS, retry_every=RETRY_SECONDS)
        msg.send(self._url("in", order), order)
        query = {"gid": gid, "trans_type": "msg", "branch_id": "00", "op": "msg"}
        self._accounts.send(msg, query, order, f"{self._own}/ask")
        return msg.outcome.status

    def _workflow(self, gid, order):
        function = self._local_transfer if order["way"] == "local" else self._transfer
        self.workflows.execution(gid, retry_every=RESUME_SECONDS).run(function, order)
        return "succeed"

    def _work(self, w: Workflow, order: dict[str, Any]) -> None:
        """Pay by a service, by a hold that is taken in the end, in this program, or in a prepared transaction."""
        match order["way"]:
            case "held":
                url = self._url("out", order)
                w.call(url, order, undo=url, commit=url)
            case "local":
                branch = w.branch().on_rollback(lambda barrier: self._accounts.local(barrier, order))
                branch.do(lambda barrier: self._accounts.local(barrier, order), returns=type(None))
            case "xa":
                query = {"gid": w.gid, "branch_id": "01", "op": "action"}
                w.xa(
                    self._accounts.connect,
                    lambda connection: self._accounts.change(connection, "out", query, order),
                    returns=type(None),
                    table=self._accounts.table,
                )
            case _:
                w.call(self._url("out", order), order, undo=self._url("out", order))
        finish = {"commit": self._url("in", order)} if order["way"] == "held" else {}
        w.call(self._url("in", order), order, undo=self._url("in", order), **finish)
