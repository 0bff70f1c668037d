-- Countries of the malicious addresses, and the traffic with them. (For a map: the coordinates are
-- one point in each country.)
SELECT
    RemoteCountry,
    count(DISTINCT MaliciousIp) AS MaliciousIps,
    sum(BytesSent) AS BytesSent,
    sum(BytesReceived) AS BytesReceived,
    any_value(RemoteLatitude ORDER BY RemoteIp) AS Latitude,
    any_value(RemoteLongitude ORDER BY RemoteIp) AS Longitude
FROM VMConnection
WHERE MaliciousIp <> ''
GROUP BY RemoteCountry
ORDER BY BytesSent DESC;
