-- In which hours of the day do connections fail?
SELECT
    hour(TimeGenerated AT TIME ZONE 'UTC') AS HourOfDay,
    sum(LinksFailed) AS LinksFailed
FROM VMConnection
WHERE LinksFailed > 0
GROUP BY HourOfDay
ORDER BY HourOfDay;
