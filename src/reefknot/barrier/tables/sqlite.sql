-- The barrier's table for SQLite: the columns and the unique key of DTM's other databases.
-- Text compares byte by byte (BINARY), so that gids differing in case or accents stay different.
CREATE TABLE IF NOT EXISTS {schema}.{name} (
    id integer PRIMARY KEY AUTOINCREMENT,
    trans_type varchar(45) NOT NULL DEFAULT '',
    gid varchar(128) NOT NULL DEFAULT '',
    branch_id varchar(128) NOT NULL DEFAULT '',
    op varchar(45) NOT NULL DEFAULT '',
    barrier_id varchar(45) NOT NULL DEFAULT '',
    reason varchar(45) NOT NULL DEFAULT '',
    create_time datetime NOT NULL DEFAULT CURRENT_TIMESTAMP,
    update_time datetime NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT uniq_barrier UNIQUE (gid, branch_id, op, barrier_id)
);
CREATE INDEX IF NOT EXISTS {schema}.{name}_create_time ON {name} (create_time);
CREATE INDEX IF NOT EXISTS {schema}.{name}_update_time ON {name} (update_time);
