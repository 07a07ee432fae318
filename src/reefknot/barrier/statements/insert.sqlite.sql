-- Only the unique key may turn the row away: any other error must be heard, so no INSERT OR IGNORE.
INSERT INTO {table} (trans_type, gid, branch_id, op, barrier_id, reason)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (gid, branch_id, op, barrier_id) DO NOTHING
