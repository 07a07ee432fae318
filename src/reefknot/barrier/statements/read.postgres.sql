SELECT gid, branch_id, op, barrier_id, reason
FROM {table}
WHERE gid = ? AND branch_id = ? AND op = ? AND barrier_id = ?
