-- Programs by number of externally reachable ports, over all computers.
SELECT ProcessName, count(DISTINCT (Port, Protocol)) AS OpenPorts
FROM VMBoundPort
WHERE Ip NOT IN ('127.0.0.1', '::1')
GROUP BY ProcessName
ORDER BY OpenPorts DESC, ProcessName;
