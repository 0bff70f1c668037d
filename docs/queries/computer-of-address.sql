-- Computer with a given address. (Replace the address.)
SELECT DISTINCT Computer, Machine
FROM VMComputer
WHERE list_contains(Ipv4Addresses || Ipv6Addresses, '10.0.0.5')
ORDER BY Computer;
