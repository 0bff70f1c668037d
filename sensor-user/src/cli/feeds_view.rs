//! `netsensor feeds`: each feed with its age, indicator count and errors.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::base::escape::{escaped, visible_part};
use crate::schema::health::HealthState;
use crate::telemetry::control::FeedReport;

/// The feeds as a table, at `now`.
pub fn feeds_view(feeds: &[FeedReport], now: Timestamp) -> String {
    let mut out = String::new();
    if feeds.is_empty() {
        out.push_str("no feed is configured, so nothing can alert\n");
    }
    for feed in feeds {
        let age =
            |time: Option<Timestamp>| time.map_or_else(|| "never".to_owned(), |it| age(it, now));
        let mut pulls = match feed.last_pull {
            Some(_) => format!(", good {}, pulled {}", age(feed.last_good), age(feed.last_pull)),
            None if feed.last_good.is_some() => format!(", good {}", age(feed.last_good)),
            None => String::new(),
        };
        pulls.push_str(&progress(feed, now));
        let _infallible = writeln!(
            out,
            "{:<12}{}  {}, {} indicators{pulls}  {}",
            state(feed),
            escaped(&feed.name, 64),
            escaped(&feed.kind, 32),
            feed.indicators,
            escaped(&feed.location, 256),
        );
        if !feed.reason.is_empty() {
            let _infallible = writeln!(out, "            {}", visible_part(&feed.reason, 1024));
        }
        if feed.duplicates > 0 {
            let _infallible = writeln!(out, "            duplicates: {}", feed.duplicates);
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
                visible_part(&reject.reason, 400)
            );
        }
    }
    out
}

/// State of a feed. Before its first pull has ended, it is neither good nor degraded.
pub(super) fn state(feed: &FeedReport) -> String {
    match feed.pulling {
        _ if feed.quarantined => "QUARANTINED".to_owned(),
        Some(_) if is_first(feed) => "PULLING".to_owned(),
        None if is_first(feed) => "WAITING".to_owned(),
        _ => feed.state.to_string(),
    }
}

/// Progress of the running pull, such as ", pulling, page 37, 12 s".
pub(super) fn progress(feed: &FeedReport, now: Timestamp) -> String {
    let Some(pull) = feed.pulling else { return String::new() };
    let seconds = now.duration_since(pull.since).as_secs().max(0);
    let verb = if is_first(feed) { "" } else { ", pulling" };
    format!("{verb}, page {}, {seconds} s", pull.page)
}

fn is_first(feed: &FeedReport) -> bool {
    feed.state == HealthState::Ok && feed.last_good.is_none()
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
    use crate::telemetry::control::{PullReport, RejectReport};

    #[test]
    fn a_feed_is_shown_with_its_errors_and_escaped() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let feed = FeedReport {
            name: "abuse".to_owned(),
            kind: "list".to_owned(),
            location: "https://feeds.example/x".to_owned(),
            state: HealthState::Degraded,
            reason: "collection \"a\\n\": status 500\u{1b}[31m".to_owned(),
            quarantined: false,
            stale: false,
            indicators: 7,
            last_pull: Timestamp::from_second(999_990).ok(),
            last_good: Timestamp::from_second(990_000).ok(),
            loaded: None,
            failures: 2,
            pulling: None,
            duplicates: 3,
            rejected: BTreeMap::from([("not an address".to_owned(), 2)]),
            rejects: vec![RejectReport {
                position: 3,
                reason: "not an address".to_owned(),
                text: "\u{7}host".to_owned(),
            }],
        };
        let view = feeds_view(std::slice::from_ref(&feed), now);
        assert_eq!(
            view,
            "DEGRADED    abuse  list, 7 indicators, good 2 h ago, pulled 10 s ago  https://feeds.example/x\n\
             \u{20}           collection \"a\\n\": status 500\\u{1b}[31m\n\
             \u{20}           duplicates: 3\n\
             \u{20}           rejected: 2 not an address\n\
             \u{20}           3: \"\\u{7}host\": not an address\n"
        );

        // A running pull: the first one, a later one, one after failures.
        let pull = PullReport { since: Timestamp::from_second(999_988).unwrap(), page: 37 };
        let new = FeedReport {
            state: HealthState::Ok,
            reason: String::new(),
            indicators: 0,
            last_pull: None,
            last_good: None,
            duplicates: 0,
            rejected: BTreeMap::new(),
            rejects: Vec::new(),
            ..feed.clone()
        };
        let later = FeedReport {
            last_pull: feed.last_pull,
            last_good: feed.last_good,
            pulling: Some(pull),
            ..new.clone()
        };
        let failed = FeedReport { state: HealthState::Degraded, last_good: None, ..later.clone() };
        let first = FeedReport { pulling: Some(pull), ..new.clone() };
        for (feed, line) in [
            (new, "WAITING     abuse  list, 0 indicators  https"),
            (first, "PULLING     abuse  list, 0 indicators, page 37, 12 s  https"),
            (
                later,
                "OK          abuse  list, 0 indicators, good 2 h ago, pulled 10 s ago, pulling, page 37, 12 s  https",
            ),
            (
                failed,
                "DEGRADED    abuse  list, 0 indicators, good never, pulled 10 s ago, pulling, page 37, 12 s  https",
            ),
        ] {
            let view = feeds_view(&[feed], now);
            assert!(view.starts_with(line), "{view}");
        }
    }
}
