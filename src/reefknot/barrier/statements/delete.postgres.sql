DELETE FROM {table}
WHERE gid = ?::text
