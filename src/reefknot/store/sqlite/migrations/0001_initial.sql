-- One row per transaction. The columns are in the order of store/base.py's Record. An integer key
-- keeps inserts at the end of the file whatever the gids look like; text compares as bytes.
CREATE TABLE tx (
    id             INTEGER PRIMARY KEY,
    gid            TEXT NOT NULL UNIQUE,
    mode           TEXT NOT NULL,
    status         TEXT NOT NULL,
    body           BLOB NOT NULL,
    progress       BLOB NOT NULL,
    owner          TEXT NOT NULL,
    epoch          INTEGER NOT NULL,
    version        INTEGER NOT NULL,
    lease_until_ms INTEGER NOT NULL,
    due_ms         INTEGER NOT NULL,
    attempts       INTEGER NOT NULL,
    parked         TEXT NOT NULL,
    reason         TEXT NOT NULL,
    result         TEXT NOT NULL,
    request_hash   BLOB NOT NULL,
    created_ms     INTEGER NOT NULL,
    updated_ms     INTEGER NOT NULL,
    decided_ms     INTEGER NOT NULL,
    finished_ms    INTEGER NOT NULL
);

-- What the poller looks for; also every question about unfinished transactions.
CREATE INDEX tx_due ON tx (due_ms) WHERE finished_ms = 0;

-- Listings and the purge. New rows go to its end.
CREATE INDEX tx_created ON tx (created_ms);

-- A few failed ones among millions.
CREATE INDEX tx_failed ON tx (created_ms) WHERE status = 'failed';

-- A body of some size is kept here and not in its row, which is rewritten at every step.
CREATE TABLE large_body (
    tx_id INTEGER PRIMARY KEY,
    body  BLOB NOT NULL
);

-- Branches that clients register; the id gives their order.
CREATE TABLE branch (
    id         INTEGER PRIMARY KEY,
    tx_id      INTEGER NOT NULL,
    branch_id  TEXT NOT NULL,
    op         TEXT NOT NULL,
    url        TEXT NOT NULL,
    payload    BLOB NOT NULL,
    status     TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    UNIQUE (tx_id, branch_id, op)
);

CREATE TABLE kv (
    id         INTEGER PRIMARY KEY,
    category   TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      TEXT NOT NULL,
    version    INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    UNIQUE (category, key)
);
