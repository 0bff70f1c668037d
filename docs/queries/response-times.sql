-- Response latency of each called service, in milliseconds. A service that never alternated between
-- request and response has none.
SELECT
    DestinationIp,
    DestinationPort,
    sum(Responses) AS Responses,
    min(ResponseTimeMin) AS Fastest,
    round(sum(ResponseTimeSum) / sum(Responses), 1) AS Average,
    max(ResponseTimeMax) AS Slowest
FROM VMConnection
WHERE Direction = 'outbound' AND Responses > 0
GROUP BY ALL
ORDER BY Average DESC;
