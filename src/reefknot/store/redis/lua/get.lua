-- ARGV: now, gid. Returns the record; it has no fields if there is none.
return load(ARGV[2])
