-- Statements for MySQL and MariaDB. {rows} stands for one row of placeholders per row of data, as the
-- statement <name>_row says; {ids} for a list of placeholders. Values are never part of the text.
--
-- @now is the time of the transaction in milliseconds of UTC, @batch the number of the transaction;
-- its first statement sets both. 9000000000000000 is store/base.py's NEVER_MS.

-- name: clock
-- UTC_TIMESTAMP depends on no time zone, neither of the server nor of the session.
SET @now = TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000, @batch = %s;

-- name: clock_given
-- Tests move the time by hand.
SET @now = %s, @batch = %s;

-- name: session
-- Backslashes in literals must be escapes: the driver relies on it. MySQL 8 warns of a strict mode without
-- the three in the middle. The second line is what a server may have set otherwise for everybody: reads that
-- end after some rows, changes that are refused, gids that may exist twice, a COMMIT that does more than that.
SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION',
    sql_select_limit = 18446744073709551615, sql_safe_updates = 0, sql_big_selects = 1, unique_checks = 1,
    completion_type = 0,
    innodb_lock_wait_timeout = 2, time_zone = '+00:00';

-- name: session_writes
SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;

-- name: session_reads
-- A transaction and its branches must be of one moment.
SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ;

-- name: find_galera
-- A row on a node of a Galera cluster; servers without Galera do not know the variable, or say OFF.
SHOW SESSION VARIABLES WHERE variable_name = 'wsrep_on' AND value = 'ON';

-- name: catch_up
-- The first read waits until this node has applied everything that the cluster has committed.
SET SESSION wsrep_sync_wait = 1; SELECT 1; SET SESSION wsrep_sync_wait = 0;

-- name: find_cluster
SHOW GLOBAL STATUS WHERE variable_name IN ('wsrep_cluster_size', 'wsrep_cluster_status');

-- name: server_settings
SELECT @@max_allowed_packet, @@version;

-- name: find_read_only
-- Rows on a server that takes no writes. The second name is that of MariaDB up to 11.0.
SHOW GLOBAL VARIABLES WHERE variable_name IN ('read_only', 'tx_read_only', 'transaction_read_only')
    AND value NOT IN ('OFF', '0');

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
INSERT INTO reefknot_tx (gid, mode, status, body, progress, progress_size, owner, epoch, version, lease_until_ms,
    due_ms, attempts, parked, reason, result, request_hash, created_ms, updated_ms, decided_ms, finished_ms, batch)
VALUES {rows}
ON DUPLICATE KEY UPDATE id = id;

-- name: create_row
(%s, %s, %s, %s, SPACE(%s), 0, %s, 1, 1, IF(%s, @now + %s, 0), LEAST(@now + %s, 9000000000000000), 0, '', '', '', %s,
    @now, @now, 0, IF(%s, @now, 0), @batch)

-- name: created
SELECT gid, id, created_ms FROM reefknot_tx WHERE gid IN ({ids}) AND batch = @batch;

-- name: get
SELECT id, gid, mode, status, body, LEFT(progress, progress_size), owner, epoch, version, lease_until_ms, due_ms,
    attempts, parked, reason, result, request_hash, created_ms, updated_ms, decided_ms, finished_ms
FROM reefknot_tx WHERE gid IN ({ids});

-- name: get_branches
SELECT tx_id, branch_id, op, url, payload, status, created_ms FROM reefknot_branch WHERE tx_id IN ({ids}) ORDER BY id;

-- name: write_progress
-- The fenced write, of which many go in one packet: that costs the server less than one UPDATE that
-- joins their values. Status and due time stay, so no index is touched. This is the hot one.
UPDATE reefknot_tx SET progress = RPAD(%s, %s, ' '), progress_size = %s, owner = %s, version = version + 1,
    lease_until_ms = IF(%s, @now + %s, 0), attempts = %s, parked = %s,
    reason = COALESCE(NULLIF(%s, ''), reason), updated_ms = @now
WHERE gid = %s AND owner = %s AND epoch = %s AND status = %s AND %s IN (0, version);

-- name: write_change
-- Another due time or another status. Assignments run from left to right: due_ms still reads the old one.
UPDATE reefknot_tx SET progress = RPAD(%s, %s, ' '), progress_size = %s, owner = %s, version = version + 1,
    lease_until_ms = IF(%s, @now + %s, 0), attempts = %s, parked = %s,
    reason = COALESCE(NULLIF(%s, ''), reason), updated_ms = @now,
    due_ms = IF(%s, LEAST(@now + %s, 9000000000000000), due_ms), status = %s, decided_ms = IF(%s, @now, decided_ms),
    finished_ms = IF(%s, @now, 0)
WHERE gid = %s AND owner = %s AND epoch = %s AND status = %s AND %s IN (0, version);

-- name: lock
-- Decisions and registrations of a transaction take turns: this is what makes an acknowledged branch
-- visible to the decision. A shared lock would do for that, but a registration also moves the due
-- time, and two of them that hold the row together could not both change it.
SELECT gid, id, mode, status, owner, epoch, finished_ms, @now FROM reefknot_tx
WHERE gid IN ({ids}) ORDER BY gid FOR UPDATE;

-- name: find_branches
SELECT b.branch_id, b.op, b.url, b.payload, b.status, b.created_ms
FROM reefknot_tx t JOIN reefknot_branch b ON b.tx_id = t.id WHERE t.gid = %s AND ({rows});

-- name: find_branches_row
(b.branch_id = %s AND b.op = %s)

-- name: decide
UPDATE reefknot_tx SET status = %s, body = COALESCE(NULLIF(%s, ''), body),
    request_hash = COALESCE(NULLIF(%s, ''), request_hash), reason = COALESCE(NULLIF(%s, ''), reason),
    result = COALESCE(NULLIF(%s, ''), result), owner = %s, lease_until_ms = IF(%s, @now + %s, 0),
    due_ms = IF(%s, LEAST(@now + %s, 9000000000000000), due_ms), epoch = epoch + 1, version = version + 1, attempts = 0,
    parked = '', updated_ms = @now, decided_ms = @now, finished_ms = IF(%s, @now, 0)
WHERE id = %s;

-- name: insert_branches
INSERT INTO reefknot_branch (tx_id, branch_id, op, url, payload, status, created_ms) VALUES {rows};

-- name: insert_branches_row
(%s, %s, %s, %s, %s, %s, @now)

-- name: touch
UPDATE reefknot_tx SET updated_ms = @now,
    due_ms = IF(%s, GREATEST(due_ms, LEAST(@now + %s, 9000000000000000)), due_ms)
WHERE id = %s;

-- Leases ----------------------------------------------------------------------------------------

-- name: find_first_due
-- The first unfinished transaction from a place in the index on, if it is due. Claimed ones leave entries in
-- the index that are marked as deleted until the server's purge comes by. To walk over thousands of those
-- took longer than to claim, so a claim starts where the one before it found the first that is alive:
-- of 20,000 due, one process claims 26,000/s instead of 10,100/s, two 24,000/s instead of 12,500/s
-- (`make bench BENCH='--rows mariadb/claims'`, three runs each on the same machine).
SELECT IF(MIN(due_ms) < @now, MIN(due_ms), @now), IF(MIN(due_ms) < @now, MIN(id), 0) FROM (
    SELECT due_ms, id FROM reefknot_tx FORCE INDEX (reefknot_tx_due)
    WHERE finished_ms = 0 AND (due_ms > %s OR (due_ms = %s AND id >= %s)) ORDER BY due_ms, id LIMIT 1
) AS alive INTO @first_ms, @first_id;

-- name: find_due
-- Rows that another node is claiming right now are left to it.
SELECT id, gid, mode, status, body, LEFT(progress, progress_size), owner, epoch, version, lease_until_ms, due_ms,
    attempts, parked, reason, result, request_hash, created_ms, updated_ms, decided_ms, finished_ms, @now,
    @first_ms, @first_id
FROM reefknot_tx FORCE INDEX (reefknot_tx_due)
WHERE finished_ms = 0 AND (due_ms > @first_ms OR (due_ms = @first_ms AND id >= @first_id)) AND due_ms <= @now
    AND lease_until_ms <= @now
ORDER BY due_ms, id LIMIT %s FOR UPDATE SKIP LOCKED;

-- name: take
UPDATE reefknot_tx SET owner = %s, epoch = epoch + 1, version = version + 1, lease_until_ms = @now + %s,
    due_ms = @now + %s, updated_ms = @now
WHERE id IN ({ids});

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

-- name: find_old
-- In the order of the index, from where the purge before this one came to: what it deleted is still there,
-- as with claims.
SELECT id, finished_ms FROM reefknot_tx FORCE INDEX (reefknot_tx_due)
WHERE finished_ms >= %s AND finished_ms < @now - %s
ORDER BY finished_ms, due_ms, id LIMIT %s FOR UPDATE SKIP LOCKED;

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
SELECT id, gid, mode, status, body, LEFT(progress, progress_size), owner, epoch, version, lease_until_ms, due_ms,
    attempts, parked, reason, result, request_hash, created_ms, updated_ms, decided_ms, finished_ms
FROM reefknot_tx FORCE INDEX (reefknot_tx_created)
WHERE created_ms >= %s AND created_ms <= LEAST(%s, %s) AND (created_ms < %s OR id < %s)
    AND (%s = '' OR status = %s) AND (%s = '' OR mode = %s)
ORDER BY created_ms DESC, id DESC LIMIT %s;

-- name: list_failed
SELECT id, gid, mode, status, body, LEFT(progress, progress_size), owner, epoch, version, lease_until_ms, due_ms,
    attempts, parked, reason, result, request_hash, created_ms, updated_ms, decided_ms, finished_ms
FROM reefknot_tx FORCE INDEX (reefknot_tx_failed)
WHERE failed_ms >= %s AND failed_ms <= LEAST(%s, %s) AND (failed_ms < %s OR id < %s)
    AND (%s = '' OR status = %s) AND (%s = '' OR mode = %s)
ORDER BY failed_ms DESC, id DESC LIMIT %s;

-- name: list_unfinished
SELECT id, gid, mode, status, body, LEFT(progress, progress_size), owner, epoch, version, lease_until_ms, due_ms,
    attempts, parked, reason, result, request_hash, created_ms, updated_ms, decided_ms, finished_ms
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
