-- Smoothed TCP round-trip times, in milliseconds, to find slow networks.
SELECT
    RemoteIp,
    min(RttMinUs) / 1000.0 AS FastestMs,
    max(RttMaxUs) / 1000.0 AS SlowestMs
FROM VMConnection
WHERE RttMinUs IS NOT NULL
GROUP BY RemoteIp
ORDER BY SlowestMs DESC
LIMIT 10;
