-- Connection failures by hour of the day.
SELECT
    hour(TimeGenerated AT TIME ZONE 'UTC') AS HourOfDay,
    sum(LinksFailed) AS LinksFailed
FROM VMConnection
WHERE LinksFailed > 0
GROUP BY HourOfDay
ORDER BY HourOfDay;
