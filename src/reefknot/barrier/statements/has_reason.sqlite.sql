SELECT count(*)
FROM {table}
WHERE gid = ? AND branch_id = ? AND op = ? AND barrier_id = ? AND reason = ?
