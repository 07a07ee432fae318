-- oldest program: 1
-- One row per transaction. The columns are in the order of store/base.py's Record. Text compares as
-- bytes, whatever the database's collation is.
CREATE TABLE {schema}.reefknot_tx (
    id             bigint GENERATED ALWAYS AS IDENTITY,
    gid            text COLLATE "C" NOT NULL,
    mode           text COLLATE "C" NOT NULL,
    status         text COLLATE "C" NOT NULL,
    body           bytea NOT NULL,
    progress       bytea NOT NULL,
    owner          text COLLATE "C" NOT NULL,
    epoch          bigint NOT NULL,
    version        bigint NOT NULL,
    lease_until_ms bigint NOT NULL,
    due_ms         bigint NOT NULL,
    attempts       bigint NOT NULL,
    parked         text NOT NULL,
    reason         text NOT NULL,
    result         text NOT NULL,
    request_hash   bytea NOT NULL,
    created_ms     bigint NOT NULL,
    updated_ms     bigint NOT NULL,
    decided_ms     bigint NOT NULL,
    finished_ms    bigint NOT NULL,
    -- Room in each page for the next versions of its rows: a report that moves neither the due time
    -- nor a final status then touches no index. Every transaction leaves dead rows behind, so the
    -- vacuum comes before they are a fifth of a large table.
    CONSTRAINT reefknot_tx_pkey PRIMARY KEY (gid) WITH (fillfactor = 80)
) WITH (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

-- What the poller looks for; also every question about unfinished transactions. The end of a lease
-- is in no index on purpose: extending it is the most frequent change.
CREATE INDEX reefknot_tx_due ON {schema}.reefknot_tx (due_ms, id) WHERE finished_ms = 0;

-- Listings and the purge. New rows go to its end.
CREATE INDEX reefknot_tx_created ON {schema}.reefknot_tx (created_ms, id);

-- A few failed ones among millions.
CREATE INDEX reefknot_tx_failed ON {schema}.reefknot_tx (created_ms, id) WHERE status = 'failed';

-- Branches that clients register; the id gives their order.
CREATE TABLE {schema}.reefknot_branch (
    id         bigint GENERATED ALWAYS AS IDENTITY,
    gid        text COLLATE "C" NOT NULL,
    branch_id  text COLLATE "C" NOT NULL,
    op         text COLLATE "C" NOT NULL,
    url        text NOT NULL,
    payload    bytea NOT NULL,
    status     text NOT NULL,
    created_ms bigint NOT NULL,
    CONSTRAINT reefknot_branch_pkey PRIMARY KEY (gid, branch_id, op)
);

CREATE TABLE {schema}.reefknot_kv (
    id         bigint GENERATED ALWAYS AS IDENTITY,
    category   text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    value      text NOT NULL,
    version    bigint NOT NULL,
    created_ms bigint NOT NULL,
    updated_ms bigint NOT NULL,
    CONSTRAINT reefknot_kv_pkey PRIMARY KEY (category, key)
);
