-- Which programs have the most ports open to others, over all computers?
SELECT ProcessName, count(DISTINCT (Port, Protocol)) AS OpenPorts
FROM VMBoundPort
WHERE Ip NOT IN ('127.0.0.1', '::1')
GROUP BY ProcessName
ORDER BY OpenPorts DESC, ProcessName;
