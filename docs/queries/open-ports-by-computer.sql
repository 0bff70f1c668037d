-- Number of externally reachable ports of each computer.
SELECT Computer, count(DISTINCT (Port, Protocol)) AS OpenPorts
FROM VMBoundPort
WHERE Ip NOT IN ('127.0.0.1', '::1')
GROUP BY Computer
ORDER BY OpenPorts DESC, Computer;
