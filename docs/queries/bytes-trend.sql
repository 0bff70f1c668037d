-- How many bytes does each computer send and receive, hour by hour?
SELECT
    time_bucket(INTERVAL 1 HOUR, TimeGenerated) AS "Hour",
    Computer,
    sum(BytesSent) AS BytesSent,
    sum(BytesReceived) AS BytesReceived
FROM VMConnection
GROUP BY ALL
ORDER BY Computer DESC, "Hour";
