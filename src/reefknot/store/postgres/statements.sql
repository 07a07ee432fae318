-- {schema} stands for the quoted name of the schema. {clock} stands for the CTE "clock" with one
-- value, now_ms: the milliseconds of the database's clock at the start of the statement, or $1 if a
-- test set it. clock_timestamp() and not now(): the latter is the start of the transaction.

-- Opening ---------------------------------------------------------------------------------------

-- name: server_settings
SELECT current_setting('server_encoding') AS encoding, current_setting('server_version_num')::int AS version;

-- name: schema_exists
SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1);

-- name: schema_version_exists
SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = 'reefknot_schema_version');

-- name: lock_migrations
-- Until the end of the transaction; a second node waits here and then finds nothing left to do.
SELECT pg_advisory_xact_lock(hashtextextended('reefknot migrations ' || $1, 0));

-- name: create_schema
CREATE SCHEMA {schema};

-- name: create_schema_version
-- oldest_program: how many migrations a program must know to work with the tables as they are then.
CREATE TABLE {schema}.reefknot_schema_version (
    version integer PRIMARY KEY, name text NOT NULL, oldest_program integer NOT NULL,
    applied timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- name: current_schema_version
SELECT COALESCE(max(version), 0) AS version, COALESCE(max(oldest_program), 0) AS oldest_program
FROM {schema}.reefknot_schema_version;

-- name: add_schema_version
INSERT INTO {schema}.reefknot_schema_version (version, name, oldest_program) VALUES ($1, $2, $3);

-- name: durability
SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('full_page_writes') AS full_page_writes;

-- name: ping
{clock} SELECT now_ms, pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS read_only FROM clock;

-- Transactions ----------------------------------------------------------------------------------

-- name: create
-- Many rows, sorted by gid so that two nodes never wait for each other in a circle. Numbers come as
-- the text of an array: the driver takes three times as long for an array of numbers.
{clock} INSERT INTO {schema}.reefknot_tx (gid, mode, status, body, progress, owner, epoch, version, lease_until_ms,
    due_ms, attempts, parked, reason, result, request_hash, created_ms, updated_ms, decided_ms, finished_ms)
SELECT n.gid, n.mode, n.status, n.body, '', n.owner, 1, 1, CASE WHEN n.lease_ms > 0 THEN now_ms + n.lease_ms ELSE 0 END,
    LEAST(now_ms + n.due_in_ms, 9000000000000000), 0, '', '', '', n.request_hash, now_ms, now_ms, 0,
    CASE WHEN n.final THEN now_ms ELSE 0 END
FROM clock, unnest($2::text[], $3::text[], $4::text[], $5::bytea[], $6::bytea[], $7::text[], $8::text::bigint[],
    $9::text::bigint[], $10::text::boolean[]) AS n (gid, mode, status, body, request_hash, owner, lease_ms, due_in_ms, final)
ON CONFLICT (gid) DO NOTHING
RETURNING gid, id, created_ms;

-- name: write
-- The fenced write, many at once, each gid at most once and sorted. The hot one. The + 0 keeps the
-- planner on the key: the index of the unfinished looks small in old statistics, and may be large.
{clock} UPDATE {schema}.reefknot_tx t SET
    status = w.status, progress = w.progress, owner = w.new_owner, version = t.version + 1,
    lease_until_ms = CASE WHEN w.lease_ms > 0 THEN now_ms + w.lease_ms ELSE 0 END,
    due_ms = CASE WHEN w.due_in_ms < 0 THEN t.due_ms ELSE LEAST(now_ms + w.due_in_ms, 9000000000000000) END,
    attempts = w.attempts, parked = w.parked, reason = CASE WHEN w.reason = '' THEN t.reason ELSE w.reason END,
    updated_ms = now_ms, decided_ms = CASE WHEN w.status = w.expect THEN t.decided_ms ELSE now_ms END,
    finished_ms = CASE WHEN w.final THEN now_ms ELSE 0 END
FROM clock, unnest($2::text[], $3::text[], $4::text::bigint[], $5::text[], $6::text[], $7::bytea[], $8::text[],
    $9::text::bigint[], $10::text::bigint[], $11::text::bigint[], $12::text[], $13::text[], $14::text::boolean[],
    $15::text::bigint[])
    AS w (gid, owner, epoch, expect, status, progress, new_owner, lease_ms, due_in_ms, attempts, parked, reason, final,
    seen)
WHERE t.gid = w.gid AND t.owner = w.owner AND t.owner <> '' AND t.epoch = w.epoch AND t.status = w.expect
    AND w.seen IN (0, t.version) AND t.finished_ms + 0 = 0
RETURNING t.gid, t.updated_ms;

-- name: get
-- One statement, so transaction and branches are of one moment.
SELECT id, gid, mode, status, body, progress, owner, epoch, version, lease_until_ms, due_ms, attempts, parked, reason,
    result, request_hash, created_ms, updated_ms, decided_ms, finished_ms,
    b.branch_ids, b.ops, b.urls, b.payloads, b.statuses, b.times
FROM {schema}.reefknot_tx t LEFT JOIN LATERAL (
    SELECT array_agg(branch_id ORDER BY id) AS branch_ids, array_agg(op ORDER BY id) AS ops,
        array_agg(url ORDER BY id) AS urls, array_agg(payload ORDER BY id) AS payloads,
        array_agg(status ORDER BY id) AS statuses, array_agg(created_ms ORDER BY id) AS times
    FROM {schema}.reefknot_branch WHERE gid = t.gid
) b ON true
WHERE t.gid = $1;

-- name: decide
-- The branches are read by a statement of their own, after this one: it may have waited for a
-- registration, whose rows only a later snapshot shows.
{clock} UPDATE {schema}.reefknot_tx t SET
    status = $4, reason = CASE WHEN $5 = '' THEN reason ELSE $5 END, result = CASE WHEN $6 = '' THEN result ELSE $6 END,
    body = CASE WHEN length($7::bytea) = 0 THEN body ELSE $7 END,
    request_hash = CASE WHEN length($8::bytea) = 0 THEN request_hash ELSE $8 END,
    owner = $9, epoch = epoch + 1, version = version + 1,
    lease_until_ms = CASE WHEN $10::bigint > 0 THEN now_ms + $10 ELSE 0 END,
    due_ms = CASE WHEN $12 THEN due_ms ELSE LEAST(now_ms + $11::bigint, 9000000000000000) END,
    attempts = 0, parked = '', updated_ms = now_ms, decided_ms = now_ms,
    finished_ms = CASE WHEN $12::boolean THEN now_ms ELSE 0 END
FROM clock
WHERE t.gid = $2 AND t.finished_ms + 0 = 0 AND t.status = ANY ($3::text[]) AND $13 IN ('', t.mode)
RETURNING id, gid, mode, status, body, progress, owner, epoch, version, lease_until_ms, due_ms, attempts, parked, reason,
    result, request_hash, created_ms, updated_ms, decided_ms, finished_ms;

-- name: get_branches
SELECT gid, branch_id, op, url, payload, status, created_ms FROM {schema}.reefknot_branch
WHERE gid = ANY ($1::text[]) ORDER BY gid, id;

-- name: register
-- The update locks the transaction's row, and looks at its newest version after waiting: a decision
-- comes either before it (no row) or after it (and then sees the branches). Without that lock, a
-- registration can be acknowledged that the decision does not see.
{clock}, locked AS (
    UPDATE {schema}.reefknot_tx t SET updated_ms = now_ms,
        due_ms = CASE WHEN $9::bigint < 0 THEN due_ms ELSE GREATEST(due_ms, LEAST(now_ms + $9, 9000000000000000)) END
    FROM clock
    WHERE t.gid = $2 AND t.mode = $3 AND t.status = 'prepared' AND NOT EXISTS (
        SELECT FROM unnest($4::text[], $5::text[]) AS n (branch_id, op)
        JOIN {schema}.reefknot_branch b ON b.gid = $2 AND b.branch_id = n.branch_id AND b.op = n.op)
    RETURNING t.gid
), added AS (
    INSERT INTO {schema}.reefknot_branch (gid, branch_id, op, url, payload, status, created_ms)
    SELECT locked.gid, n.branch_id, n.op, n.url, n.payload, n.status, now_ms
    FROM locked, clock, unnest($4::text[], $5::text[], $6::text[], $7::bytea[], $8::text[]) WITH ORDINALITY
        AS n (branch_id, op, url, payload, status, place)
    ORDER BY n.place
)
SELECT now_ms FROM clock, locked;

-- name: find_prepared
SELECT 1 FROM {schema}.reefknot_tx WHERE gid = $1 AND mode = $2 AND status = 'prepared';

-- name: find_branches
SELECT b.gid, b.branch_id, b.op, b.url, b.payload, b.status, b.created_ms
FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS n (branch_id, op, place)
JOIN {schema}.reefknot_branch b ON b.gid = $1 AND b.branch_id = n.branch_id AND b.op = n.op
ORDER BY n.place;

-- name: claim
-- SKIP LOCKED hands two nodes different rows. A CTE and not IN (SELECT … LIMIT): that can take more.
{clock}, due AS MATERIALIZED (
    SELECT gid, id, owner, due_ms, lease_until_ms FROM {schema}.reefknot_tx
    WHERE finished_ms = 0 AND due_ms <= (SELECT now_ms FROM clock) AND lease_until_ms <= (SELECT now_ms FROM clock)
    ORDER BY due_ms, id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE {schema}.reefknot_tx t SET owner = $2, epoch = t.epoch + 1, version = t.version + 1,
    lease_until_ms = now_ms + $4::bigint, due_ms = now_ms + $4, updated_ms = now_ms
FROM due, clock WHERE t.gid = due.gid
RETURNING t.id, t.gid, mode, status, body, progress, t.owner, epoch, version, t.lease_until_ms, t.due_ms, attempts,
    parked, reason, result, request_hash, created_ms, updated_ms, decided_ms, finished_ms,
    due.due_ms AS was_due_ms, CASE WHEN due.owner = '' THEN 0 ELSE due.lease_until_ms END AS abandoned_ms;

-- name: renew
{clock} UPDATE {schema}.reefknot_tx t SET lease_until_ms = now_ms + $5::bigint, due_ms = now_ms + $5, updated_ms = now_ms
FROM clock, unnest($3::text[], $4::bigint[]) AS h (gid, epoch)
WHERE t.gid = h.gid AND t.epoch = h.epoch AND t.owner = $2 AND t.owner <> '' AND t.finished_ms + 0 = 0
RETURNING t.gid, t.updated_ms;

-- name: release
{clock}, changed AS (
    UPDATE {schema}.reefknot_tx SET owner = '', lease_until_ms = 0, due_ms = now_ms, updated_ms = now_ms
    FROM clock WHERE finished_ms = 0 AND owner = $2 AND owner <> '' RETURNING 1
)
SELECT count(*) FROM changed;

-- name: wake
{clock}, changed AS (
    UPDATE {schema}.reefknot_tx t SET due_ms = now_ms, updated_ms = now_ms,
        parked = CASE WHEN finished_ms = 0 THEN '' ELSE parked END
    FROM clock, unnest($2::text[]) AS n (gid) WHERE t.gid = n.gid RETURNING 1
)
SELECT count(*) FROM changed;

-- name: wake_later
{clock}, found AS MATERIALIZED (
    SELECT gid, row_number() OVER (ORDER BY due_ms, id) AS place FROM {schema}.reefknot_tx
    WHERE finished_ms = 0 AND due_ms > (SELECT now_ms FROM clock) + $2::bigint AND due_ms < 9000000000000000
        AND parked = ''
    ORDER BY due_ms, id LIMIT $3::bigint + 1
), changed AS (
    UPDATE {schema}.reefknot_tx t SET due_ms = now_ms, updated_ms = now_ms FROM found, clock
    WHERE t.gid = found.gid AND found.place <= $3 AND t.finished_ms + 0 = 0 AND t.parked = '' AND t.due_ms > now_ms + $2
    RETURNING 1
)
SELECT (SELECT count(*) FROM changed) AS changed, (SELECT count(*) FROM found) > $3 AS more;

-- Retention -------------------------------------------------------------------------------------

-- name: purge
-- Oldest first by creation: what finished before a moment was created before it.
{clock}, old AS MATERIALIZED (
    SELECT gid FROM {schema}.reefknot_tx
    WHERE created_ms < (SELECT now_ms FROM clock) - $2::bigint AND finished_ms > 0
        AND finished_ms < (SELECT now_ms FROM clock) - $2
    ORDER BY created_ms, id LIMIT $3 FOR UPDATE SKIP LOCKED
), branches AS (
    DELETE FROM {schema}.reefknot_branch b USING old WHERE b.gid = old.gid
), deleted AS (
    DELETE FROM {schema}.reefknot_tx t USING old WHERE t.gid = old.gid RETURNING 1
)
SELECT count(*) FROM deleted;

-- name: reset
WITH branches AS (DELETE FROM {schema}.reefknot_branch), keys AS (DELETE FROM {schema}.reefknot_kv),
deleted AS (DELETE FROM {schema}.reefknot_tx RETURNING 1)
SELECT count(*) FROM deleted;

-- Listings --------------------------------------------------------------------------------------
-- $1 status or '', $2 mode or '', $3 and $4 first and last creation time, $5 and $6 creation time and
-- id of the row before this page, $7 number of rows.

-- name: list_by_creation
SELECT id, gid, mode, status, body, progress, owner, epoch, version, lease_until_ms, due_ms, attempts, parked, reason,
    result, request_hash, created_ms, updated_ms, decided_ms, finished_ms
FROM {schema}.reefknot_tx
WHERE created_ms >= $3 AND created_ms <= $4 AND (created_ms, id) < ($5::bigint, $6::bigint)
    AND ($1::text = '' OR status = $1) AND ($2::text = '' OR mode = $2)
ORDER BY created_ms DESC, id DESC LIMIT $7;

-- name: list_failed
SELECT id, gid, mode, status, body, progress, owner, epoch, version, lease_until_ms, due_ms, attempts, parked, reason,
    result, request_hash, created_ms, updated_ms, decided_ms, finished_ms
FROM {schema}.reefknot_tx
WHERE created_ms >= $3 AND created_ms <= $4 AND (created_ms, id) < ($5::bigint, $6::bigint)
    AND status = 'failed' AND $1::text = 'failed' AND ($2::text = '' OR mode = $2)
ORDER BY created_ms DESC, id DESC LIMIT $7;

-- name: list_unfinished
-- Through the index of the unfinished: those may be a few, created long ago, behind millions.
WITH live AS MATERIALIZED (
    SELECT gid FROM {schema}.reefknot_tx
    WHERE finished_ms = 0 AND status = $1 AND ($2::text = '' OR mode = $2) AND created_ms + 0 >= $3
        AND created_ms + 0 <= $4 AND (created_ms + 0, id) < ($5::bigint, $6::bigint)
    ORDER BY created_ms + 0 DESC, id DESC LIMIT $7
)
SELECT id, t.gid, mode, status, body, progress, owner, epoch, version, lease_until_ms, due_ms, attempts, parked, reason,
    result, request_hash, created_ms, updated_ms, decided_ms, finished_ms
FROM live JOIN {schema}.reefknot_tx t ON t.gid = live.gid
ORDER BY created_ms DESC, id DESC;

-- name: count_unfinished
{clock} SELECT mode, status, count(*) AS transactions, min(created_ms) AS oldest_ms,
    count(*) FILTER (WHERE parked <> '') AS parked,
    count(*) FILTER (WHERE due_ms <= now_ms AND lease_until_ms <= now_ms) AS due
FROM {schema}.reefknot_tx, clock WHERE finished_ms = 0 GROUP BY mode, status;

-- Keys and values -------------------------------------------------------------------------------

-- name: kv_get
SELECT id, category, key, value, version, created_ms, updated_ms FROM {schema}.reefknot_kv
WHERE category = $1 AND key = $2;

-- name: kv_list_first
SELECT id, category, key, value, version, created_ms, updated_ms FROM {schema}.reefknot_kv
WHERE category = $1 ORDER BY key LIMIT $2;

-- name: kv_list_after
SELECT id, category, key, value, version, created_ms, updated_ms FROM {schema}.reefknot_kv
WHERE category = $1 AND key > $3 ORDER BY key LIMIT $2;

-- name: kv_insert
{clock} INSERT INTO {schema}.reefknot_kv (category, key, value, version, created_ms, updated_ms)
SELECT $2, $3, $4, 1, now_ms, now_ms FROM clock ON CONFLICT (category, key) DO NOTHING RETURNING 1;

-- name: kv_update
{clock} UPDATE {schema}.reefknot_kv SET value = $4, version = version + 1, updated_ms = now_ms
FROM clock WHERE category = $2 AND key = $3 AND version = $5 RETURNING 1;

-- name: kv_delete
DELETE FROM {schema}.reefknot_kv WHERE category = $1 AND key = $2 RETURNING 1;
