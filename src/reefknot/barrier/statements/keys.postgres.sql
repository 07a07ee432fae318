SELECT c.relname, a.attname
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
CROSS JOIN LATERAL unnest(i.indkey::int[]) WITH ORDINALITY AS k (number, place)
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
WHERE i.indrelid = to_regclass(concat_ws('.', nullif(?::text, ''), ?::text)) AND i.indisunique AND i.indpred IS NULL
ORDER BY c.relname, k.place
