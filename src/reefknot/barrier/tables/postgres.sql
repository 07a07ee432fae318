-- The barrier's table for PostgreSQL, as DTM's clients use it: they name the constraint uniq_barrier.
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE SEQUENCE IF NOT EXISTS {schema}.{name}_seq;
CREATE TABLE IF NOT EXISTS {schema}.{name} (
    id bigint NOT NULL DEFAULT nextval('{schema}.{name}_seq') PRIMARY KEY,
    trans_type varchar(45) DEFAULT '',
    gid varchar(128) DEFAULT '',
    branch_id varchar(128) DEFAULT '',
    op varchar(45) DEFAULT '',
    barrier_id varchar(45) DEFAULT '',
    reason varchar(45) DEFAULT '',
    create_time timestamptz(0) DEFAULT now(),
    update_time timestamptz(0) DEFAULT now(),
    CONSTRAINT uniq_barrier UNIQUE (gid, branch_id, op, barrier_id)
);
CREATE INDEX IF NOT EXISTS {name}_create_time ON {schema}.{name} (create_time);
