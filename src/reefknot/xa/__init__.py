"""XA branches: work that a database holds, prepared, until the transaction is decided."""

from reefknot.xa._async.branch import AsyncXaBranch
from reefknot.xa._sync.branch import XaBranch
from reefknot.xa.core import InDoubt

__all__ = ["AsyncXaBranch", "InDoubt", "XaBranch"]
