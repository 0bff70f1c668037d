-- Connections established, ended and failed in each hour, and connections open at the end of its
-- last minute. (LinksLive is a gauge: it is not summed over time.)
WITH minutes AS (
    SELECT
        TimeGenerated,
        sum(LinksEstablished) AS Established,
        sum(LinksTerminated) AS Terminated,
        sum(LinksFailed) AS Failed,
        sum(LinksLive) AS Live
    FROM VMConnection
    WHERE TimeGenerated > (SELECT max(TimeGenerated) FROM VMConnection) - INTERVAL 24 HOURS
    GROUP BY TimeGenerated
)
SELECT
    time_bucket(INTERVAL 1 HOUR, TimeGenerated) AS "Hour",
    sum(Established) AS LinksEstablished,
    sum(Terminated) AS LinksTerminated,
    sum(Failed) AS LinksFailed,
    arg_max(Live, TimeGenerated) AS LinksLive
FROM minutes
GROUP BY "Hour"
ORDER BY "Hour";
