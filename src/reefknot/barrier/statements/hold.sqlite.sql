-- Deletes nothing; the transaction becomes one that writes.
DELETE FROM {table}
WHERE false
