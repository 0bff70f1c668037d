-- Computers by bytes sent, with the number of remote addresses.
SELECT
    Computer,
    sum(BytesSent) AS BytesSent,
    sum(BytesReceived) AS BytesReceived,
    count(DISTINCT RemoteIp) AS RemoteIps
FROM VMConnection
GROUP BY Computer
ORDER BY BytesSent DESC;
