-- Transactions all of whose rows are old, in the order of their gids; age in seconds of the newest row.
SELECT gid, count(*), timestampdiff(SECOND, max(create_time), now())
FROM {table}
WHERE gid > ?
GROUP BY gid
HAVING count(create_time) = count(*) AND max(create_time) < now() - INTERVAL ? SECOND
ORDER BY gid
LIMIT ?
