-- Bytes sent and received by each computer, per hour.
SELECT
    time_bucket(INTERVAL 1 HOUR, TimeGenerated) AS "Hour",
    Computer,
    sum(BytesSent) AS BytesSent,
    sum(BytesReceived) AS BytesReceived
FROM VMConnection
GROUP BY ALL
ORDER BY Computer DESC, "Hour";
