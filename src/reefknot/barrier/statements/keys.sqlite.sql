-- The implicit key of the column id is none of them.
SELECT list.name, info.name
FROM pragma_index_list(?, ?) AS list, pragma_index_info(list.name, ?) AS info
WHERE list."unique"
ORDER BY list.name, info.seqno
