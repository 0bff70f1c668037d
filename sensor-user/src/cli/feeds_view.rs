//! `netsensor feeds`: each feed with its age, indicator count and errors.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::base::escape::escaped;
use crate::telemetry::control::FeedReport;

/// The feeds as a table, at `now`.
pub fn feeds_view(feeds: &[FeedReport], now: Timestamp) -> String {
    let mut out = String::new();
    if feeds.is_empty() {
        out.push_str("no feed is configured, so nothing can alert\n");
    }
    for feed in feeds {
        let state =
            if feed.quarantined { "QUARANTINED".to_owned() } else { feed.state.to_string() };
        let age =
            |time: Option<Timestamp>| time.map_or_else(|| "never".to_owned(), |it| age(it, now));
        let _infallible = writeln!(
            out,
            "{state:<12}{}  {}, {} indicators, good {}, pulled {}  {}",
            escaped(&feed.name, 64),
            escaped(&feed.kind, 32),
            feed.indicators,
            age(feed.last_good),
            age(feed.last_pull),
            escaped(&feed.location, 256),
        );
        if !feed.reason.is_empty() {
            let _infallible = writeln!(out, "            {}", escaped(&feed.reason, 1024));
        }
        if !feed.rejected.is_empty() {
            let each = feed.rejected.iter().map(|(reason, count)| format!("{count} {reason}"));
            let each = each.collect::<Vec<_>>().join(", ");
            let _infallible = writeln!(out, "            rejected: {}", escaped(&each, 1024));
        }
        for reject in &feed.rejects {
            let _infallible = writeln!(
                out,
                "            {}: \"{}\": {}",
                reject.position,
                escaped(&reject.text, 200),
                escaped(&reject.reason, 400)
            );
        }
    }
    out
}

/// Age of `time`, in the largest suitable unit.
pub(super) fn age(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(time).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::schema::health::HealthState;
    use crate::telemetry::control::RejectReport;

    #[test]
    fn a_feed_is_shown_with_its_errors_and_escaped() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let feed = FeedReport {
            name: "abuse".to_owned(),
            kind: "list".to_owned(),
            location: "https://feeds.example/x".to_owned(),
            state: HealthState::Degraded,
            reason: "status 500\u{1b}[31m".to_owned(),
            quarantined: false,
            stale: false,
            indicators: 7,
            last_pull: Timestamp::from_second(999_990).ok(),
            last_good: Timestamp::from_second(990_000).ok(),
            loaded: None,
            failures: 2,
            rejected: BTreeMap::from([("not an address".to_owned(), 2)]),
            rejects: vec![RejectReport {
                position: 3,
                reason: "not an address".to_owned(),
                text: "\u{7}host".to_owned(),
            }],
        };
        let view = feeds_view(&[feed], now);
        assert_eq!(
            view,
            "DEGRADED    abuse  list, 7 indicators, good 2 h ago, pulled 10 s ago  https://feeds.example/x\n\
             \u{20}           status 500\\u{1b}[31m\n\
             \u{20}           rejected: 2 not an address\n\
             \u{20}           3: \"\\u{7}host\": not an address\n"
        );
    }
}
