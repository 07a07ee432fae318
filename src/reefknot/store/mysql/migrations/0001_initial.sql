-- A statement of this file may have run before, because MySQL commits each of them by itself. So
-- every one of them can be repeated.
--
-- The columns of reefknot_tx are in the order of store/base.py's Record. What is compared is
-- VARBINARY: utf8mb4_bin would take 'order-1' and 'order-1 ' for the same.
CREATE TABLE IF NOT EXISTS reefknot_tx (
    id             BIGINT NOT NULL AUTO_INCREMENT,
    gid            VARBINARY(512) NOT NULL,
    mode           VARBINARY(64) NOT NULL,
    status         VARBINARY(16) NOT NULL,
    body           LONGBLOB NOT NULL,
    progress       LONGBLOB NOT NULL,
    owner          VARBINARY(255) NOT NULL,
    epoch          BIGINT NOT NULL,
    version        BIGINT NOT NULL,
    lease_until_ms BIGINT NOT NULL,
    due_ms         BIGINT NOT NULL,
    attempts       BIGINT NOT NULL,
    parked         LONGTEXT NOT NULL,
    reason         LONGTEXT NOT NULL,
    result         LONGTEXT NOT NULL,
    request_hash   VARBINARY(255) NOT NULL,
    created_ms     BIGINT NOT NULL,
    updated_ms     BIGINT NOT NULL,
    decided_ms     BIGINT NOT NULL,
    finished_ms    BIGINT NOT NULL,
    -- progress is followed by room to grow; this many bytes of it count. A row that keeps its length is
    -- changed in place, one that grows can split its page, which costs four times as much log.
    progress_size  INT NOT NULL,
    -- The number of the batch that created this row: tells which rows of its INSERT are new.
    batch          BIGINT NOT NULL,
    -- A few failed ones among millions.
    failed_ms      BIGINT GENERATED ALWAYS AS (CASE WHEN status = _binary'failed' THEN created_ms END) STORED,
    PRIMARY KEY (id),
    UNIQUE KEY reefknot_tx_gid (gid),
    -- What the poller looks for and every question about unfinished transactions; and the purge.
    KEY reefknot_tx_due (finished_ms, due_ms),
    KEY reefknot_tx_created (created_ms),
    KEY reefknot_tx_failed (failed_ms)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = utf8mb4 COLLATE = utf8mb4_bin;

-- Branches that clients register; the id gives their order.
CREATE TABLE IF NOT EXISTS reefknot_branch (
    id         BIGINT NOT NULL AUTO_INCREMENT,
    tx_id      BIGINT NOT NULL,
    branch_id  VARBINARY(512) NOT NULL,
    op         VARBINARY(255) NOT NULL,
    url        LONGTEXT NOT NULL,
    payload    LONGBLOB NOT NULL,
    status     VARBINARY(16) NOT NULL,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE KEY reefknot_branch_pair (tx_id, branch_id, op)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS reefknot_kv (
    id         BIGINT NOT NULL AUTO_INCREMENT,
    category   VARBINARY(255) NOT NULL,
    name       VARBINARY(1024) NOT NULL,
    value      LONGTEXT NOT NULL,
    version    BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE KEY reefknot_kv_name (category, name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = utf8mb4 COLLATE = utf8mb4_bin;
