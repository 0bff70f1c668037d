-- Which processes have a word in their command line, as they were said last?
SELECT DISTINCT ON (Machine, Process)
    Computer,
    ExecutablePath,
    CommandLine,
    UserName,
    StartTime
FROM VMProcess
WHERE contains(lower(CommandLine), 'sql')
ORDER BY Machine, Process, TimeGenerated DESC;
