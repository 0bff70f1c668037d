-- Traffic of each externally reachable port.
SELECT
    Computer,
    ProcessName,
    Ip,
    Port,
    IsWildcardBind,
    sum(BytesSent) AS BytesSent,
    sum(BytesReceived) AS BytesReceived,
    sum(LinksEstablished) AS LinksEstablished,
    sum(LinksTerminated) AS LinksTerminated,
    arg_max(LinksLive, TimeGenerated) AS LinksLive
FROM VMBoundPort
WHERE Ip NOT IN ('127.0.0.1', '::1')
GROUP BY ALL
ORDER BY sum(BytesSent + BytesReceived) DESC, Computer, Port, Ip;
