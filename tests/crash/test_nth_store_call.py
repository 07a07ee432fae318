"""The n-th call of the store fails, for every n there is: nothing is lost, nothing is done twice."""

import pytest

from crash.nth_call import MODES, WAYS, run
from reefknot.testing.invariants import violations

pytestmark = pytest.mark.anyio

#: What each transaction comes to if the failure changes nothing.
ENDS = {
    "saga": "succeed",
    "saga-rollback": "failed",
    "msg-submit": "succeed",
    "msg-query": "succeed",
    "msg-abort": "failed",
    "tcc-confirm": "succeed",
    "tcc-cancel": "failed",
    "tcc-timeout": "failed",
    "xa-commit": "succeed",
    "xa-rollback": "failed",
    "workflow": "succeed",
    "workflow-failed": "failed",
}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", MODES)
async def test_every_store_call_may_fail(mode, way):
    number, failed = 0, True
    while failed:
        number += 1
        history, failed = await run(mode, number, way)
        again = f"{mode}: store call {number} fails {way}"
        assert violations(history) == (), again
        assert [one.status for one in history.final] == [ENDS[mode]], again
    assert number > 4, "the transaction needs more calls than that"


async def test_write_that_arrives_late_undoes_nothing():
    found, number, failed = [], 0, True
    while failed:
        number += 1
        history, failed = await run("saga-rollback", number, "late")
        found += violations(history)
    assert found == []
