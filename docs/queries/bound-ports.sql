-- Listening ports of each computer, with the process.
SELECT DISTINCT Computer, Protocol, Port, ProcessName
FROM VMBoundPort
WHERE TimeGenerated > (SELECT max(TimeGenerated) FROM VMBoundPort) - INTERVAL 24 HOURS
ORDER BY Computer, Port, Protocol, ProcessName;
