-- How fast does each service answer that is called? Milliseconds; services that never answered in
-- turn with a request have no response times.
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
