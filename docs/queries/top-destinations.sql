-- Remote addresses by bytes, with the names that were queried for them.
SELECT
    RemoteIp,
    list_sort(list_distinct(flatten(list(
        from_json(coalesce(nullif(RemoteDnsQuestions, ''), '[]'), '["VARCHAR"]')
    )))) AS Names,
    sum(BytesSent + BytesReceived) AS Bytes,
    sum(LinksEstablished) AS LinksEstablished
FROM VMConnection
WHERE Direction = 'outbound'
GROUP BY RemoteIp
ORDER BY Bytes DESC, RemoteIp
LIMIT 10;
