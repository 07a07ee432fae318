-- Opening ---------------------------------------------------------------------------------------

-- name: create_schema_version
CREATE TABLE IF NOT EXISTS schema_version (
    version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_ms INTEGER NOT NULL
);

-- name: find_schema_version
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_version';

-- name: current_schema_version
SELECT COALESCE(MAX(version), 0) FROM schema_version;

-- name: add_schema_version
INSERT INTO schema_version (version, name, applied_ms) VALUES (?1, ?2, ?3);

-- name: end_leases
-- The lock file says that no other process drives, so every lease that is left is one of a
-- process that is gone.
UPDATE tx SET lease_until_ms = MIN(lease_until_ms, ?1), due_ms = ?1, updated_ms = ?1
WHERE finished_ms = 0 AND owner <> '';

-- Transactions ----------------------------------------------------------------------------------

-- name: create
INSERT INTO tx (gid, mode, status, body, progress, owner, epoch, version, lease_until_ms, due_ms, attempts,
    parked, reason, result, request_hash, created_ms, updated_ms, decided_ms, finished_ms)
VALUES (?1, ?2, ?3, ?4, x'', ?5, 1, 1, ?6, ?7, 0, '', '', '', ?8, ?9, ?9, 0, ?10)
ON CONFLICT (gid) DO NOTHING;

-- name: delete_large_body
DELETE FROM large_body WHERE tx_id = ?1;

-- name: insert_large_body
INSERT INTO large_body (tx_id, body) VALUES (?1, ?2);

-- name: get
SELECT t.id, gid, mode, status, COALESCE(l.body, t.body), progress, owner, epoch, version, lease_until_ms, due_ms,
    attempts, parked, reason, result, request_hash, created_ms, updated_ms, decided_ms, finished_ms
FROM tx t LEFT JOIN large_body l ON l.tx_id = t.id WHERE gid = ?1;

-- name: get_branches
SELECT branch_id, op, url, payload, status, created_ms FROM branch WHERE tx_id = ?1 ORDER BY id;

-- name: write_progress
-- The status and the due time stay, so no index is touched. This is the hot one.
UPDATE tx SET progress = ?1, owner = ?2, version = version + 1, lease_until_ms = ?3, attempts = ?4, parked = ?5,
    reason = CASE WHEN ?6 = '' THEN reason ELSE ?6 END, updated_ms = ?7
WHERE gid = ?8 AND owner = ?9 AND epoch = ?10 AND status = ?11 AND ?12 IN (0, version);

-- name: write_due
-- The same with a new due time.
UPDATE tx SET progress = ?1, owner = ?2, version = version + 1, lease_until_ms = ?3, attempts = ?4, parked = ?5,
    reason = CASE WHEN ?6 = '' THEN reason ELSE ?6 END, updated_ms = ?7, due_ms = ?12
WHERE gid = ?8 AND owner = ?9 AND epoch = ?10 AND status = ?11 AND ?13 IN (0, version);

-- name: write_status
-- Another status; ?12 is the new due time or -1.
UPDATE tx SET progress = ?1, owner = ?2, version = version + 1, lease_until_ms = ?3, attempts = ?4, parked = ?5,
    reason = CASE WHEN ?6 = '' THEN reason ELSE ?6 END, updated_ms = ?7, decided_ms = ?7,
    due_ms = CASE WHEN ?12 < 0 THEN due_ms ELSE ?12 END, status = ?13
WHERE gid = ?8 AND owner = ?9 AND epoch = ?10 AND status = ?11 AND ?14 IN (0, version);

-- name: write_finish
-- A final status; the row leaves the due index.
UPDATE tx SET progress = ?1, owner = ?2, version = version + 1, lease_until_ms = ?3, attempts = ?4, parked = ?5,
    reason = CASE WHEN ?6 = '' THEN reason ELSE ?6 END, updated_ms = ?7, decided_ms = ?7, finished_ms = ?7, status = ?12
WHERE gid = ?8 AND owner = ?9 AND epoch = ?10 AND status = ?11 AND ?13 IN (0, version);

-- name: decide
-- ?2 is a JSON array of the expected statuses. A due time of -1 leaves it.
UPDATE tx SET status = ?3, reason = CASE WHEN ?4 = '' THEN reason ELSE ?4 END,
    result = CASE WHEN ?5 = '' THEN result ELSE ?5 END,
    request_hash = CASE WHEN ?6 = x'' THEN request_hash ELSE ?6 END,
    owner = ?7, lease_until_ms = ?8, due_ms = CASE WHEN ?9 < 0 THEN due_ms ELSE ?9 END, epoch = epoch + 1,
    version = version + 1, attempts = 0, parked = '', updated_ms = ?10, decided_ms = ?10, finished_ms = ?11
WHERE gid = ?1 AND finished_ms = 0 AND status IN (SELECT value FROM json_each(?2)) AND ?12 IN ('', mode)
RETURNING id;

-- name: set_body
UPDATE tx SET body = ?2 WHERE id = ?1;

-- name: find_prepared
SELECT id FROM tx WHERE gid = ?1 AND mode = ?2 AND status = 'prepared';

-- name: get_branch
SELECT branch_id, op, url, payload, status, created_ms FROM branch
WHERE tx_id = ?1 AND branch_id = ?2 AND op = ?3;

-- name: insert_branch
INSERT INTO branch (tx_id, branch_id, op, url, payload, status, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7);

-- name: touch_registered
UPDATE tx SET updated_ms = ?2 WHERE id = ?1;

-- name: touch_registered_due
UPDATE tx SET updated_ms = ?2, due_ms = MAX(due_ms, ?3) WHERE id = ?1;

-- name: find_due
-- The + keeps the planner on the due index, which also gives the order.
SELECT t.id, gid, mode, status, COALESCE(l.body, t.body), progress, owner, epoch, version, lease_until_ms, due_ms,
    attempts, parked, reason, result, request_hash, created_ms, updated_ms, decided_ms, finished_ms
FROM tx t INDEXED BY tx_due LEFT JOIN large_body l ON l.tx_id = t.id
WHERE finished_ms = 0 AND due_ms <= ?1 AND +lease_until_ms <= ?1 ORDER BY due_ms, t.id LIMIT ?2;

-- name: take
UPDATE tx SET owner = ?2, epoch = epoch + 1, version = version + 1, lease_until_ms = ?3, due_ms = ?3, updated_ms = ?4
WHERE id = ?1;

-- name: renew
UPDATE tx SET lease_until_ms = ?4, due_ms = ?4, updated_ms = ?5
WHERE gid = ?1 AND owner = ?2 AND owner <> '' AND epoch = ?3 AND finished_ms = 0;

-- name: release
UPDATE tx SET owner = '', lease_until_ms = 0, due_ms = ?2, updated_ms = ?2
WHERE finished_ms = 0 AND owner = ?1 AND owner <> '';

-- name: wake
UPDATE tx SET due_ms = ?2, updated_ms = ?2, parked = CASE WHEN finished_ms = 0 THEN '' ELSE parked END
WHERE gid = ?1;

-- name: find_later
SELECT id FROM tx INDEXED BY tx_due
WHERE finished_ms = 0 AND due_ms > ?1 AND due_ms < ?2 AND parked = '' ORDER BY due_ms, id LIMIT ?3;

-- name: set_due
UPDATE tx SET due_ms = ?2, updated_ms = ?2 WHERE id = ?1;

-- Retention -------------------------------------------------------------------------------------

-- name: find_old
-- Oldest first by creation: what finished before a moment was created before it.
SELECT id FROM tx WHERE created_ms < ?1 AND finished_ms > 0 AND finished_ms < ?1 ORDER BY created_ms, id LIMIT ?2;

-- name: delete_branches
DELETE FROM branch WHERE tx_id = ?1;

-- name: delete_transaction
DELETE FROM tx WHERE id = ?1;

-- name: delete_all_branches
DELETE FROM branch;

-- name: delete_all_large_bodies
DELETE FROM large_body;

-- name: delete_all_keys
DELETE FROM kv;

-- name: count_transactions
SELECT COUNT(*) FROM tx;

-- name: delete_all_transactions
DELETE FROM tx;

-- Listings --------------------------------------------------------------------------------------
-- ?1 status or '', ?2 mode or '', ?3 and ?4 first and last creation time, ?5 and ?6 creation time and
-- id of the row before this page, ?7 number of rows.

-- name: list_by_creation
SELECT t.id, gid, mode, status, COALESCE(l.body, t.body), progress, owner, epoch, version, lease_until_ms, due_ms,
    attempts, parked, reason, result, request_hash, created_ms, updated_ms, decided_ms, finished_ms
FROM tx t INDEXED BY tx_created LEFT JOIN large_body l ON l.tx_id = t.id
WHERE created_ms >= ?3 AND created_ms <= MIN(?4, ?5) AND (created_ms < ?5 OR t.id < ?6)
    AND (?1 = '' OR status = ?1) AND (?2 = '' OR mode = ?2)
ORDER BY created_ms DESC, t.id DESC LIMIT ?7;

-- name: list_failed
SELECT t.id, gid, mode, status, COALESCE(l.body, t.body), progress, owner, epoch, version, lease_until_ms, due_ms,
    attempts, parked, reason, result, request_hash, created_ms, updated_ms, decided_ms, finished_ms
FROM tx t INDEXED BY tx_failed LEFT JOIN large_body l ON l.tx_id = t.id
WHERE created_ms >= ?3 AND created_ms <= MIN(?4, ?5) AND (created_ms < ?5 OR t.id < ?6)
    AND status = 'failed' AND ?1 = 'failed' AND (?2 = '' OR mode = ?2)
ORDER BY created_ms DESC, t.id DESC LIMIT ?7;

-- name: list_unfinished
SELECT t.id, gid, mode, status, COALESCE(l.body, t.body), progress, owner, epoch, version, lease_until_ms, due_ms,
    attempts, parked, reason, result, request_hash, created_ms, updated_ms, decided_ms, finished_ms
FROM tx t INDEXED BY tx_due LEFT JOIN large_body l ON l.tx_id = t.id
WHERE finished_ms = 0 AND status = ?1 AND created_ms >= ?3 AND created_ms <= MIN(?4, ?5)
    AND (created_ms < ?5 OR t.id < ?6) AND (?2 = '' OR mode = ?2)
ORDER BY created_ms DESC, t.id DESC LIMIT ?7;

-- name: count_unfinished
SELECT mode, status, COUNT(*), MIN(created_ms), SUM(parked <> ''), SUM(due_ms <= ?1 AND lease_until_ms <= ?1)
FROM tx INDEXED BY tx_due WHERE finished_ms = 0 GROUP BY mode, status;

-- Keys and values -------------------------------------------------------------------------------

-- name: kv_get
SELECT id, category, key, value, version, created_ms, updated_ms FROM kv WHERE category = ?1 AND key = ?2;

-- name: kv_list_first
SELECT id, category, key, value, version, created_ms, updated_ms FROM kv WHERE category = ?1 ORDER BY key LIMIT ?2;

-- name: kv_list_after
SELECT id, category, key, value, version, created_ms, updated_ms FROM kv
WHERE category = ?1 AND key > ?3 ORDER BY key LIMIT ?2;

-- name: kv_insert
INSERT INTO kv (category, key, value, version, created_ms, updated_ms) VALUES (?1, ?2, ?3, 1, ?4, ?4)
ON CONFLICT (category, key) DO NOTHING;

-- name: kv_update
UPDATE kv SET value = ?3, version = version + 1, updated_ms = ?4
WHERE category = ?1 AND key = ?2 AND version = ?5;

-- name: kv_delete
DELETE FROM kv WHERE category = ?1 AND key = ?2;
