SELECT column_name, column_type, coalesce(collation_name, ''), coalesce(column_default, 'NULL') <> 'NULL'
FROM information_schema.columns
WHERE table_schema = coalesce(nullif(?, ''), database()) AND table_name = ?
