-- Clients of this host's services, with the process that serves them.
SELECT
    Computer,
    ProcessName,
    Protocol,
    DestinationPort,
    count(DISTINCT SourceIp) AS Clients,
    sum(LinksEstablished) AS LinksEstablished,
    sum(BytesReceived) AS BytesReceived,
    sum(BytesSent) AS BytesSent
FROM VMConnection
WHERE Direction = 'inbound'
GROUP BY ALL
ORDER BY LinksEstablished DESC, DestinationPort;
