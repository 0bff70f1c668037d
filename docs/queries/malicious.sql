-- Malicious addresses, the processes that connected to them, and the attributes of the indicator.
SELECT
    MaliciousIp,
    IndicatorThreatType,
    max(Severity) AS Severity,
    max(TRY_CAST(Confidence AS INTEGER)) AS Confidence,
    list_sort(list_distinct(list(Computer || ' ' || ProcessName))) AS Who,
    list_sort(list_distinct(list(Direction))) AS Directions,
    sum(LinksEstablished) AS LinksEstablished,
    sum(LinksFailed) AS LinksFailed,
    sum(BytesSent) AS BytesSent,
    min(TimeGenerated) AS FirstSeen,
    max(TimeGenerated) AS LastSeen
FROM VMConnection
WHERE MaliciousIp <> ''
GROUP BY MaliciousIp, IndicatorThreatType
ORDER BY Severity DESC, MaliciousIp;
