-- Latest state of the processes that have a given word in their command line.
SELECT DISTINCT ON (Machine, Process)
    Computer,
    ExecutablePath,
    CommandLine,
    UserName,
    StartTime
FROM VMProcess
WHERE contains(lower(CommandLine), 'sql')
ORDER BY Machine, Process, TimeGenerated DESC;
