-- A plain SELECT would show the transaction's snapshot, which can be older than the row in the way.
SELECT gid, branch_id, op, barrier_id, reason
FROM {table}
WHERE gid = ? AND branch_id = ? AND op = ? AND barrier_id = ?
LOCK IN SHARE MODE
