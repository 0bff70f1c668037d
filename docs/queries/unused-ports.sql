-- Externally reachable ports without any connection.
SELECT Computer, ProcessName, Protocol, Port, max(TimeGenerated) AS LastSeen
FROM VMBoundPort
WHERE Ip NOT IN ('127.0.0.1', '::1')
GROUP BY ALL
HAVING sum(LinksEstablished) = 0 AND sum(BytesReceived) = 0
ORDER BY Computer, Port;
