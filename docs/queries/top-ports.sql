-- Which ports are called, by direction and protocol, and how much goes through each?
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
