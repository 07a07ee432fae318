SELECT name, type, '', coalesce(dflt_value, 'NULL') <> 'NULL'
FROM pragma_table_info(?, ?)
