-- Latest state of each computer: name, system, addresses, and boot time.
SELECT
    Machine,
    arg_max(Computer, TimeGenerated) AS Computer,
    arg_max(OperatingSystemFullName, TimeGenerated) AS OperatingSystem,
    arg_max(PhysicalMemoryMB, TimeGenerated) AS PhysicalMemoryMB,
    arg_max(Ipv4Addresses, TimeGenerated) AS Ipv4Addresses,
    arg_max(BootTime, TimeGenerated) AS BootTime
FROM VMComputer
GROUP BY Machine
ORDER BY Computer;
