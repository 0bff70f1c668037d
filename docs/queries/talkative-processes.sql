-- Processes by number of remote addresses, with user and path, which the original tables do not
-- have.
SELECT
    Computer,
    ProcessName,
    ProcessPath,
    UserName,
    count(DISTINCT RemoteIp) AS RemoteIps,
    count(DISTINCT DestinationPort) AS Ports
FROM VMConnection
GROUP BY ALL
ORDER BY RemoteIps DESC, Computer, ProcessName;
