-- Who calls this host's services, and which process answers?
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
