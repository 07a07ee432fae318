-- The barrier's table for MySQL and MariaDB, as DTM's clients use it.
-- utf8mb4_bin: with a collation that ignores case, order-a and Order-A would be one transaction.
CREATE DATABASE IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}.{name} (
    id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    trans_type varchar(45) DEFAULT '',
    gid varchar(128) DEFAULT '',
    branch_id varchar(128) DEFAULT '',
    op varchar(45) DEFAULT '',
    barrier_id varchar(45) DEFAULT '',
    reason varchar(45) DEFAULT '' COMMENT 'the operation that inserted this row',
    create_time datetime DEFAULT CURRENT_TIMESTAMP,
    update_time datetime DEFAULT CURRENT_TIMESTAMP,
    KEY (create_time),
    KEY (update_time),
    UNIQUE KEY uniq_barrier (gid, branch_id, op, barrier_id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
