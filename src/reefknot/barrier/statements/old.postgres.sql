-- Transactions all of whose rows are old, in the order of their gids; age in seconds of the newest row.
SELECT gid, count(*), extract(epoch FROM now() - max(create_time))::bigint
FROM {table}
WHERE gid > ?::text
GROUP BY gid
HAVING count(create_time) = count(*) AND max(create_time) < now() - make_interval(secs => ?::bigint)
ORDER BY gid
LIMIT ?::bigint
