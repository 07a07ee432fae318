SELECT count(*)
FROM {table}
WHERE create_time IS NULL
