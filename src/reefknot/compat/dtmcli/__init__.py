"""The modules of ``dtmcli`` 1.7.7, DTM's Python client: the same names and order of arguments, over this SDK.

    from reefknot.compat.dtmcli import saga, utils      # instead of: from dtmcli import saga, utils

An old program runs after that change. What it then does differently, because the old client did it wrong,
stands in docs/coming-from-dtmcli.md. Each old name is logged once, with its new spelling.
"""

from reefknot.compat.dtmcli import barrier, dtmimp, msg, saga, tcc, transbase, utils

__all__ = ["barrier", "dtmimp", "msg", "saga", "tcc", "transbase", "utils"]
