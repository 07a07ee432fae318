-- DTM's clients name the constraint uniq_barrier; its columns find it under any name.
INSERT INTO {table} (trans_type, gid, branch_id, op, barrier_id, reason)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (gid, branch_id, op, barrier_id) DO NOTHING
