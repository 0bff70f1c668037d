-- How many ports does each computer have open to others?
SELECT Computer, count(DISTINCT (Port, Protocol)) AS OpenPorts
FROM VMBoundPort
WHERE Ip NOT IN ('127.0.0.1', '::1')
GROUP BY Computer
ORDER BY OpenPorts DESC, Computer;
