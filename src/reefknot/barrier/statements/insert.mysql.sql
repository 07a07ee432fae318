-- A second row is error 1062, which the barrier understands. INSERT IGNORE would hide what is cut or replaced,
-- and ON DUPLICATE KEY UPDATE reports a row of its own on connections with the flag FOUND_ROWS.
INSERT INTO {table} (trans_type, gid, branch_id, op, barrier_id, reason)
VALUES (?, ?, ?, ?, ?, ?)
