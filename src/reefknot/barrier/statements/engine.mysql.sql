SELECT engine
FROM information_schema.tables
WHERE table_schema = coalesce(nullif(?, ''), database()) AND table_name = ?
