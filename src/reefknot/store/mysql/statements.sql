-- Statements for MySQL and MariaDB. {rows} stands for one row of placeholders per row of data, as the
-- statement <name>_row says; {ids} for a list of placeholders. Values are never part of the text.
--
-- @now is the time of the transaction in milliseconds of UTC, @batch the number of the batch; both
-- are set in the same packet as the first statement. 9000000000000000 is store/base.py's NEVER_MS.

-- name: clock
-- UTC_TIMESTAMP depends on no time zone, neither of the server nor of the session.
SET @now = TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000, @batch = %s;

-- name: clock_given
-- Tests move the time by hand.
SET @now = %s, @batch = %s;

-- name: session
-- Backslashes in literals must be escapes: the driver relies on it.
SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', innodb_lock_wait_timeout = 2, time_zone = '+00:00';

-- name: session_writes
SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;

-- name: session_reads
-- A transaction and its branches must be of one moment.
SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ;

-- name: server_settings
SELECT @@max_allowed_packet, @@version, @@global.read_only;

-- Opening ---------------------------------------------------------------------------------------

-- name: lock_migrations
SELECT GET_LOCK(CONCAT('reefknot ', LEFT(SHA1(DATABASE()), 40)), %s);

-- name: unlock_migrations
SELECT RELEASE_LOCK(CONCAT('reefknot ', LEFT(SHA1(DATABASE()), 40)));

-- name: create_schema_version
-- oldest_program: how many migrations a program must know to work with the tables as they are then.
CREATE TABLE IF NOT EXISTS reefknot_schema_version (
    version BIGINT NOT NULL PRIMARY KEY, name VARBINARY(255) NOT NULL, oldest_program BIGINT NOT NULL,
    applied_ms BIGINT NOT NULL
) ENGINE = InnoDB;

-- name: find_schema_version
SELECT 1 FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_name = 'reefknot_schema_version';

-- name: current_schema_version
SELECT COALESCE(MAX(version), 0), COALESCE(MAX(oldest_program), 0) FROM reefknot_schema_version;

-- name: add_schema_version
INSERT INTO reefknot_schema_version (version, name, oldest_program, applied_ms)
VALUES (%s, %s, %s, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000);

-- name: durability
SELECT @@innodb_flush_log_at_trx_commit, @@innodb_doublewrite, @@log_bin, @@sync_binlog, @@version;

-- Transactions ----------------------------------------------------------------------------------

-- name: create
-- Never INSERT IGNORE: that one also hides a gid that is too long.
INSERT INTO reefknot_tx (gid, mode, status, body, progress, owner, epoch, version, lease_until_ms, due_ms, attempts,
    parked, reason, result, request_hash, created_ms, updated_ms, decided_ms, finished_ms, batch)
VALUES {rows}
ON DUPLICATE KEY UPDATE id = id;

-- name: create_row
(%s, %s, %s, %s, '', %s, 1, 1, IF(%s, @now + %s, 0), LEAST(@now + %s, 9000000000000000), 0, '', '', '', %s, @now, @now,
    0, IF(%s, @now, 0), @batch)

-- name: created
SELECT gid, id, created_ms FROM reefknot_tx WHERE gid IN ({ids}) AND batch = @batch;

-- name: get
SELECT id, gid, mode, status, body, progress, owner, epoch, version, lease_until_ms, due_ms, attempts, parked, reason,
    result, request_hash, created_ms, updated_ms, decided_ms, finished_ms
FROM reefknot_tx WHERE gid IN ({ids});

-- name: get_branches
SELECT tx_id, branch_id, op, url, payload, status, created_ms FROM reefknot_branch WHERE tx_id IN ({ids}) ORDER BY id;

-- name: write
-- The fenced write. Assignments of an UPDATE with two tables have no order, so none of them reads
-- a column that another one changes.
UPDATE ({rows}) v STRAIGHT_JOIN reefknot_tx t
    ON t.gid = v.gid AND t.owner = v.holder AND t.epoch = v.held_epoch AND t.status = v.expected
SET t.status = v.new_status, t.progress = v.new_progress, t.owner = v.keeper, t.version = t.version + 1,
    t.lease_until_ms = IF(v.lease_ms > 0, @now + v.lease_ms, 0),
    t.due_ms = IF(v.due_in_ms < 0, t.due_ms, LEAST(@now + v.due_in_ms, 9000000000000000)),
    t.attempts = v.new_attempts, t.parked = v.new_parked, t.reason = IF(v.new_reason = '', t.reason, v.new_reason),
    t.updated_ms = @now, t.decided_ms = IF(v.decides, @now, t.decided_ms), t.finished_ms = IF(v.finishes, @now, 0),
    t.batch = @batch;

-- name: write_row
SELECT %s AS gid, %s AS holder, %s AS held_epoch, %s AS expected, %s AS new_status, %s AS new_progress, %s AS keeper,
    %s AS lease_ms, %s AS due_in_ms, %s AS new_attempts, %s AS new_parked, %s AS new_reason, %s AS decides, %s AS finishes

-- name: written
SELECT gid FROM reefknot_tx WHERE gid IN ({ids}) AND batch = @batch;

-- name: lock
-- Decisions and registrations of a transaction take turns: this is what makes an acknowledged branch
-- visible to the decision. A shared lock would do for that, but a registration also moves the due
-- time, and two of them that hold the row together could not both change it.
SELECT gid, id, mode, status, finished_ms, @now FROM reefknot_tx WHERE gid IN ({ids}) ORDER BY gid FOR UPDATE;

-- name: decide
UPDATE ({rows}) v STRAIGHT_JOIN reefknot_tx t ON t.id = v.id
SET t.status = v.new_status, t.body = IF(v.new_body = '', t.body, v.new_body),
    t.request_hash = IF(v.new_hash = '', t.request_hash, v.new_hash),
    t.reason = IF(v.new_reason = '', t.reason, v.new_reason), t.result = IF(v.new_result = '', t.result, v.new_result),
    t.owner = v.keeper, t.lease_until_ms = IF(v.lease_ms > 0, @now + v.lease_ms, 0),
    t.due_ms = IF(v.due_in_ms < 0, t.due_ms, LEAST(@now + v.due_in_ms, 9000000000000000)),
    t.epoch = t.epoch + 1, t.version = t.version + 1, t.attempts = 0, t.parked = '', t.updated_ms = @now,
    t.decided_ms = @now, t.finished_ms = IF(v.finishes, @now, 0);

-- name: decide_row
SELECT %s AS id, %s AS new_status, %s AS new_body, %s AS new_hash, %s AS new_reason, %s AS new_result, %s AS keeper,
    %s AS lease_ms, %s AS due_in_ms, %s AS finishes

-- name: find_branches
SELECT b.tx_id, b.branch_id, b.op, b.url, b.payload, b.status, b.created_ms
FROM ({rows}) v STRAIGHT_JOIN reefknot_branch b
    ON b.tx_id = v.tx_id AND b.branch_id = v.branch_id AND b.op = v.op;

-- name: find_branches_row
SELECT %s AS tx_id, %s AS branch_id, %s AS op

-- name: insert_branches
INSERT INTO reefknot_branch (tx_id, branch_id, op, url, payload, status, created_ms) VALUES {rows};

-- name: insert_branches_row
(%s, %s, %s, %s, %s, %s, @now)

-- name: touch
UPDATE ({rows}) v STRAIGHT_JOIN reefknot_tx t ON t.id = v.id
SET t.updated_ms = @now,
    t.due_ms = IF(v.due_in_ms < 0, t.due_ms, GREATEST(t.due_ms, LEAST(@now + v.due_in_ms, 9000000000000000)));

-- name: touch_row
SELECT %s AS id, %s AS due_in_ms

-- Leases ----------------------------------------------------------------------------------------

-- name: find_due
-- Rows that another node is claiming right now are left to it.
SELECT id, gid, mode, status, body, progress, owner, epoch, version, lease_until_ms, due_ms, attempts, parked, reason,
    result, request_hash, created_ms, updated_ms, decided_ms, finished_ms, @now
FROM reefknot_tx FORCE INDEX (reefknot_tx_due)
WHERE finished_ms = 0 AND due_ms <= @now AND lease_until_ms <= @now
ORDER BY due_ms, id LIMIT %s FOR UPDATE SKIP LOCKED;

-- name: take
UPDATE reefknot_tx SET owner = %s, epoch = epoch + 1, version = version + 1, lease_until_ms = @now + %s,
    due_ms = @now + %s, updated_ms = @now
WHERE id IN ({ids});

-- name: find_held
SELECT t.gid, t.id FROM ({rows}) v STRAIGHT_JOIN reefknot_tx t ON t.gid = v.gid AND t.epoch = v.held_epoch
WHERE t.owner = %s AND t.finished_ms = 0 FOR UPDATE;

-- name: find_held_row
SELECT %s AS gid, %s AS held_epoch

-- name: renew
UPDATE reefknot_tx SET lease_until_ms = @now + %s, due_ms = @now + %s, updated_ms = @now WHERE id IN ({ids});

-- name: find_owned
SELECT id FROM reefknot_tx FORCE INDEX (reefknot_tx_due) WHERE finished_ms = 0 AND owner = %s AND owner <> '';

-- name: release
UPDATE reefknot_tx SET owner = '', lease_until_ms = 0, due_ms = @now, updated_ms = @now
WHERE owner = %s AND finished_ms = 0 AND id IN ({ids});

-- name: wake
UPDATE reefknot_tx SET due_ms = @now, updated_ms = @now, parked = IF(finished_ms = 0, '', parked) WHERE gid IN ({ids});

-- name: find_later
SELECT id FROM reefknot_tx FORCE INDEX (reefknot_tx_due)
WHERE finished_ms = 0 AND due_ms > @now + %s AND due_ms < 9000000000000000 AND LENGTH(parked) = 0
ORDER BY due_ms, id LIMIT %s;

-- name: wake_later
UPDATE reefknot_tx SET due_ms = @now, updated_ms = @now
WHERE finished_ms = 0 AND due_ms > @now + %s AND due_ms < 9000000000000000 AND LENGTH(parked) = 0 AND id IN ({ids});

-- Retention -------------------------------------------------------------------------------------

-- name: find_last_old
-- The end time of the last one that a purge may take; the index gives it without sorting.
SELECT finished_ms FROM reefknot_tx FORCE INDEX (reefknot_tx_due)
WHERE finished_ms > 0 AND finished_ms < @now - %s ORDER BY finished_ms LIMIT 1 OFFSET %s;

-- name: find_old
SELECT id FROM reefknot_tx FORCE INDEX (reefknot_tx_due)
WHERE finished_ms > 0 AND finished_ms < @now - %s AND finished_ms <= %s
ORDER BY finished_ms, id LIMIT %s FOR UPDATE SKIP LOCKED;

-- name: delete_branches
DELETE FROM reefknot_branch WHERE tx_id IN ({ids});

-- name: delete_transactions
DELETE FROM reefknot_tx WHERE id IN ({ids});

-- name: find_some
SELECT id FROM reefknot_tx ORDER BY id LIMIT %s FOR UPDATE;

-- name: delete_all_keys
DELETE FROM reefknot_kv;

-- Listings --------------------------------------------------------------------------------------
-- Each: first and last creation time, creation time (three times) and id of the row before this page,
-- status, mode (each twice), number of rows.

-- name: list_by_creation
SELECT id, gid, mode, status, body, progress, owner, epoch, version, lease_until_ms, due_ms, attempts, parked, reason,
    result, request_hash, created_ms, updated_ms, decided_ms, finished_ms
FROM reefknot_tx FORCE INDEX (reefknot_tx_created)
WHERE created_ms >= %s AND created_ms <= LEAST(%s, %s) AND (created_ms < %s OR id < %s)
    AND (%s = '' OR status = %s) AND (%s = '' OR mode = %s)
ORDER BY created_ms DESC, id DESC LIMIT %s;

-- name: list_failed
SELECT id, gid, mode, status, body, progress, owner, epoch, version, lease_until_ms, due_ms, attempts, parked, reason,
    result, request_hash, created_ms, updated_ms, decided_ms, finished_ms
FROM reefknot_tx FORCE INDEX (reefknot_tx_failed)
WHERE failed_ms >= %s AND failed_ms <= LEAST(%s, %s) AND (failed_ms < %s OR id < %s)
    AND (%s = '' OR status = %s) AND (%s = '' OR mode = %s)
ORDER BY failed_ms DESC, id DESC LIMIT %s;

-- name: list_unfinished
SELECT id, gid, mode, status, body, progress, owner, epoch, version, lease_until_ms, due_ms, attempts, parked, reason,
    result, request_hash, created_ms, updated_ms, decided_ms, finished_ms
FROM reefknot_tx FORCE INDEX (reefknot_tx_due)
WHERE finished_ms = 0 AND created_ms >= %s AND created_ms <= LEAST(%s, %s) AND (created_ms < %s OR id < %s)
    AND (%s = '' OR status = %s) AND (%s = '' OR mode = %s)
ORDER BY created_ms DESC, id DESC LIMIT %s;

-- name: count_unfinished
SELECT mode, status, COUNT(*), MIN(created_ms), SUM(LENGTH(parked) > 0), SUM(due_ms <= @now AND lease_until_ms <= @now)
FROM reefknot_tx FORCE INDEX (reefknot_tx_due) WHERE finished_ms = 0 GROUP BY mode, status;

-- name: now
SELECT @now;

-- Keys and values -------------------------------------------------------------------------------

-- name: kv_get
SELECT id, category, name, value, version, created_ms, updated_ms FROM reefknot_kv WHERE category = %s AND name = %s;

-- name: kv_list_first
SELECT id, category, name, value, version, created_ms, updated_ms FROM reefknot_kv
WHERE category = %s ORDER BY name LIMIT %s;

-- name: kv_list_after
SELECT id, category, name, value, version, created_ms, updated_ms FROM reefknot_kv
WHERE category = %s AND name > %s ORDER BY name LIMIT %s;

-- name: kv_insert
INSERT INTO reefknot_kv (category, name, value, version, created_ms, updated_ms) VALUES (%s, %s, %s, 1, @now, @now);

-- name: kv_update
UPDATE reefknot_kv SET value = %s, version = version + 1, updated_ms = @now
WHERE category = %s AND name = %s AND version = %s;

-- name: kv_delete
DELETE FROM reefknot_kv WHERE category = %s AND name = %s;
