-- Ports by direction and protocol, with the traffic of each.
SELECT
    Direction,
    Protocol,
    DestinationPort,
    sum(LinksEstablished) AS LinksEstablished,
    sum(LinksFailed) AS LinksFailed,
    sum(BytesSent + BytesReceived) AS Bytes
FROM VMConnection
GROUP BY ALL
ORDER BY Bytes DESC, DestinationPort;
