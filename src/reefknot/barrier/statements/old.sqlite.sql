-- Transactions all of whose rows are old, in the order of their gids; age in seconds of the newest row.
SELECT gid, count(*), strftime('%s', 'now') - strftime('%s', max(create_time))
FROM {table}
WHERE gid > ?
GROUP BY gid
HAVING count(create_time) = count(*) AND max(create_time) < datetime('now', '-' || ? || ' seconds')
ORDER BY gid
LIMIT ?
