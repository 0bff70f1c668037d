-- Processes with failed connections, the destinations, and the share of failed attempts.
SELECT
    Computer,
    ProcessName,
    DestinationIp,
    DestinationPort,
    sum(LinksFailed) AS LinksFailed,
    round(sum(LinksFailed) / sum(LinksFailed + LinksEstablished), 3) AS Share
FROM VMConnection
WHERE Direction = 'outbound'
GROUP BY ALL
HAVING sum(LinksFailed) > 0
ORDER BY LinksFailed DESC, Computer, DestinationIp, DestinationPort;
