SELECT a.attname, format_type(a.atttypid, a.atttypmod), '', NOT starts_with(coalesce(pg_get_expr(d.adbin, d.adrelid), 'NULL'), 'NULL')
FROM pg_attribute AS a
LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = to_regclass(concat_ws('.', nullif(?::text, ''), ?::text)) AND a.attnum > 0 AND NOT a.attisdropped
