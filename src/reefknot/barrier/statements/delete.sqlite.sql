DELETE FROM {table}
WHERE gid = ?
