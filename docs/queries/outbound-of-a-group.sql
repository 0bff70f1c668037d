-- Outbound connections of some machines: each machine, process and destination, with the response
-- latency. Set the names of the machines in the first lines.
WITH machines AS (
    SELECT DISTINCT Machine FROM VMConnection WHERE Computer LIKE 'web%'
)
SELECT
    Computer,
    ProcessName,
    DestinationIp,
    DestinationPort,
    Protocol,
    sum(BytesSent) AS BytesSent,
    sum(BytesReceived) AS BytesReceived,
    sum(LinksEstablished) AS LinksEstablished,
    sum(LinksFailed) AS LinksFailed,
    sum(LinksTerminated) AS LinksTerminated,
    arg_max(LinksLive, TimeGenerated) AS LinksLive,
    sum(Responses) AS Responses,
    round(sum(ResponseTimeSum) / sum(Responses), 1) AS AverageResponse
FROM VMConnection
JOIN machines USING (Machine)
WHERE Direction = 'outbound'
GROUP BY ALL
ORDER BY Computer, ProcessName, DestinationIp, DestinationPort;
