"""How a branch stays idempotent: the sub-transaction barrier.

The server repeats a call whenever it did not hear the answer, and compensates calls that may
never have arrived. A barrier row, written in the business's own local transaction, makes each
operation take effect at most once and in the right order. The rule is in ``core``; each database
driver has one module of its own.
"""
