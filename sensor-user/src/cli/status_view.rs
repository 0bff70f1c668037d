//! `netsensor status` as text: 80 columns, and at most 24 lines if no component is degraded.
//! Foreign text (names, reasons) is escaped, and truncated to its field.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::feeds_view::{age, progress, state};
use crate::base::escape::{escaped, visible_part};
use crate::deliver::SinkReport;
use crate::schema::health::HealthState;
use crate::telemetry::control::{ConntrackReport, FeedReport, StatusReport};

/// Width of a line, and of the label at its left, columns.
const COLUMNS: usize = 80;
const LABEL: usize = 10;
/// Maximum number of feeds and sinks with a line; further ones are counted.
const FEEDS_MAX: usize = 4;
const SINKS_MAX: usize = 3;
/// Maximum number of lines of one subject.
const LINES_MAX: usize = 4;

/// Status view under construction.
struct StatusView {
    out: String,
    now: Timestamp,
}

/// The status as text, at `now`.
pub fn status_view(report: &StatusReport, now: Timestamp) -> String {
    let mut view = StatusView { out: String::new(), now };
    view.add_agent(report);
    view.add_probes(report);
    view.add_pipeline(report);
    view.add_feeds(report);
    view.add_delivery(report);
    if let Some(reload) = &report.last_reload {
        let waits = reload.waits_for_restart.join(", ");
        let result = match (reload.error.is_empty(), waits.is_empty()) {
            (false, _) => "refused, the old configuration stays in force".to_owned(),
            (true, true) => "good".to_owned(),
            (true, false) => format!("good; these need a restart: {waits}"),
        };
        view.line("reload", &format!("{}: {result}", view.ago(Some(reload.time))));
    }
    view.out
}

impl StatusView {
    fn add_agent(&mut self, report: &StatusReport) {
        let computer = escaped(&report.computer, 30);
        let text = format!(
            "netsensor {} on {computer}, process {}, started {}",
            escaped(&report.version, 16),
            report.process_id,
            self.ago(Some(report.started))
        );
        self.line(&report.state.to_string(), &text);
        for part in report.components.iter().filter(|it| it.state == HealthState::Degraded) {
            let (name, reason) = (escaped(&part.name, 80), visible_part(&part.reason, 512));
            self.line("DEGRADED", &format!("{name} since {}: {reason}", part.since));
        }
        let (kernel, object) = (escaped(&report.kernel, 40), escaped(&report.object, 12));
        self.line("versions", &format!("kernel {kernel}, BPF object {object}"));
        if !report.confined.is_empty() {
            self.line("confined", &visible_part(&report.confined, 512));
        }
    }

    fn add_probes(&mut self, report: &StatusReport) {
        let on = report.probes.iter().filter(|probe| probe.on);
        let on: Vec<&str> = on.map(|probe| probe.name.as_str()).collect();
        self.line("probes", &escaped(&on.join(", "), 2048));
        for probe in report.probes.iter().filter(|probe| !probe.on) {
            let (name, reason) = (escaped(&probe.name, 80), visible_part(&probe.reason, 256));
            self.line("off", &format!("{name}: {reason}"));
        }
        let seen = match report.canary_seen {
            Some(seen) => format!("seen {}", self.ago(Some(seen))),
            None => "not seen yet".to_owned(),
        };
        self.line("canary", &seen);
        self.line("conntrack", &conntrack(report));
    }

    fn add_pipeline(&mut self, report: &StatusReport) {
        let ledger = report.ledger;
        let rest = ledger.unaccounted();
        let verdict = if rest < 0 { "does not close" } else { "closes" };
        let text = format!(
            "{} attempted = {} received + {} lost + {rest} in the ring: {verdict}",
            ledger.attempted, ledger.received, ledger.ring_full
        );
        self.line("ledger", &text);
        let lost = report.losses.iter().filter(|loss| loss.count > 0);
        let lost: Vec<String> =
            lost.map(|loss| format!("{} {} {}", loss.kind, loss.reason, loss.count)).collect();
        let lost = if lost.is_empty() { "nothing".to_owned() } else { lost.join(", ") };
        self.line("lost", &escaped(&lost, 512));
        let count = |name: &str| report.counters.get(name).copied().unwrap_or(0);
        let suppressed =
            ["hits_suppressed_own_traffic", "hits_suppressed_allow_list", "hits_suppressed_window"];
        let suppressed: u64 = suppressed.iter().map(|name| count(name)).sum();
        let text = format!(
            "{} connections, {} hits, {suppressed} suppressed, {} alerts, {} rows",
            count("flows_observed"),
            count("hits_found"),
            count("alerts_raised"),
            count("rows_emitted")
        );
        self.line("detection", &text);
    }

    fn add_feeds(&mut self, report: &StatusReport) {
        let set = report.set;
        let text = format!("{} hosts and {} networks", set.hosts, set.networks);
        self.line("matched", &text);
        // Degraded feeds first; the sort is stable.
        let mut feeds: Vec<&FeedReport> = report.feeds.iter().collect();
        feeds.sort_by_key(|feed| feed.state == HealthState::Ok);
        for feed in feeds.iter().take(FEEDS_MAX) {
            let good = match (feed.last_good, feed.last_pull) {
                (None, None) => String::new(),
                (good, _) => format!(", good {}", self.ago(good)),
            };
            let text = format!(
                "{} {}: {} indicators{good}{}",
                state(feed),
                escaped(&feed.name, 32),
                feed.indicators,
                progress(feed, self.now)
            );
            self.line("feed", &text);
        }
        self.count_rest("feed", feeds.len(), FEEDS_MAX, "netsensor feeds, or --json");
        if feeds.is_empty() {
            self.line("feed", "none is configured, so nothing can alert");
        }
    }

    fn add_delivery(&mut self, report: &StatusReport) {
        if let Some(spool) = &report.delivery.spool {
            // The spool retains delivered alerts too: their age is no delay.
            let waiting = report.delivery.sinks.iter().filter(|sink| sink.alerts_waiting > 0);
            let oldest = waiting.filter_map(|sink| sink.oldest_waiting).min();
            let oldest = oldest.map(|it| format!(", oldest alert {}", self.ago(Some(it))));
            let (bytes, max) = (spool.bytes, spool.max_bytes);
            let text = format!("{bytes} of {max} bytes{}", oldest.unwrap_or_default());
            self.line("spool", &text);
        }
        let mut sinks: Vec<&SinkReport> = report.delivery.sinks.iter().collect();
        sinks.sort_by_key(|sink| sink.error.is_empty());
        for sink in sinks.iter().take(SINKS_MAX) {
            let state = if sink.error.is_empty() { "OK" } else { "FAILS" };
            let text = format!(
                "{state} {}: {} alerts, {} rows wait, {}",
                escaped(&sink.name, 24),
                sink.alerts_waiting,
                sink.rows_waiting,
                sink.last_delivered.map_or_else(
                    || "nothing sent yet".to_owned(),
                    |time| format!("last sent {}", self.ago(Some(time)))
                )
            );
            self.line("sink", &text);
            if sink.already_stored > 0 {
                self.line(
                    "",
                    &format!("{} were already there, not stored again", sink.already_stored),
                );
            }
        }
        self.count_rest("sink", sinks.len(), SINKS_MAX, "--json");
        let count = |name: &str| report.counters.get(name).copied().unwrap_or(0);
        let text = format!(
            "{} alerts and {} rows, {} retries, {} dead-lettered",
            count("alerts_delivered"),
            count("rows_delivered"),
            count("deliveries_retried"),
            count("items_dead_lettered")
        );
        self.line("delivered", &text);
    }

    fn ago(&self, time: Option<Timestamp>) -> String {
        time.map_or_else(|| "never".to_owned(), |time| age(time, self.now))
    }

    fn count_rest(&mut self, label: &str, count: usize, shown: usize, remedy: &str) {
        if count > shown {
            let rest = count - shown;
            self.line(label, &format!("and {rest} more; see {remedy}"));
        }
    }

    /// Adds a subject, on up to [`LINES_MAX`] lines, broken between words if possible.
    fn line(&mut self, label: &str, text: &str) {
        let mut rest: Vec<char> = text.chars().collect();
        let room = COLUMNS - LABEL;
        for number in 0..LINES_MAX {
            let mut end = rest.len().min(room);
            let is_last = number + 1 == LINES_MAX;
            if end < rest.len() && !is_last {
                let space = rest.iter().take(end + 1).rposition(|c| *c == ' ');
                end = space.filter(|at| *at > 0).unwrap_or(end);
            }
            let is_cut = is_last && end < rest.len();
            let remainder = rest.split_off(end);
            let mut shown: String = rest.iter().collect();
            if is_cut {
                shown.pop();
                shown.push('…');
            }
            let label = if number == 0 { label } else { "" };
            let _infallible = writeln!(self.out, "{label:<LABEL$}{}", shown.trim_end());
            rest = remainder.into_iter().skip_while(|c| *c == ' ').collect();
            if rest.is_empty() {
                return;
            }
        }
    }
}

/// State of the NAT lookups.
fn conntrack(report: &StatusReport) -> String {
    let ConntrackReport { off, namespaces, tracking, pending } = &report.conntrack;
    if !off.is_empty() {
        return format!("off: {}", escaped(off, 256));
    }
    let count = |name: &str| report.counters.get(name).copied().unwrap_or(0);
    let lost = count("nat_lookups_evicted") + count("nat_lookups_dropped_queue_full");
    format!(
        "{tracking} of {namespaces} namespaces track; lookups: {pending} pending, {lost} dropped, \
         {} failed",
        count("nat_lookups_failed")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::health::Component;

    /// Status of an agent in which all names are hostile.
    fn hostile(count: usize) -> StatusReport {
        let name = format!("\u{1b}[31m\u{202e}\n{}", "x".repeat(300));
        let time = "2026-11-28T05:00:00Z";
        let part = serde_json::json!({
            "Name": name, "State": "DEGRADED", "Reason": name, "Since": time
        });
        let feed = serde_json::json!({
            "Name": name, "Kind": name, "Location": name, "State": "OK", "Reason": "",
            "Quarantined": false, "Indicators": u64::MAX, "LastPull": time, "LastGood": time,
            "Loaded": time, "Failures": 0, "Rejected": {}
        });
        let sink = serde_json::json!({
            "Name": name, "AlertsWaiting": u64::MAX, "RowsWaiting": u64::MAX,
            "LastDelivered": null, "Error": name, "LastError": name
        });
        let report = serde_json::json!({
            "Type": "NetsensorStatus", "State": "DEGRADED", "Version": name, "ProcessId": 7,
            "AgentId": name, "Computer": name, "Started": time, "Components": vec![part; count],
            "Probes": [{ "Name": name, "On": true, "Reason": "" }], "Confined": name,
            "Kernel": name, "Object": name,
            "Feeds": vec![feed; count], "Delivery": { "Spool": null, "Sinks": vec![sink; count] },
            "Counters": {}
        });
        serde_json::from_value(report).unwrap()
    }

    #[test]
    fn the_oldest_alert_is_one_that_waits() {
        let now = "2026-11-28T05:01:00Z".parse().unwrap();
        let mut report = hostile(0);
        let spool = serde_json::json!({
            "Bytes": 84, "MaxBytes": 1000, "Segments": 1, "Oldest": "2026-11-28T04:44:00Z",
            "Error": ""
        });
        report.delivery.spool = serde_json::from_value(spool).unwrap();
        let sink = |waiting: u64, oldest: Option<&str>| -> SinkReport {
            let sink = serde_json::json!({
                "Name": "s", "AlertsWaiting": waiting, "RowsWaiting": 0, "LastDelivered": null,
                "Error": "", "LastError": "", "OldestWaiting": oldest
            });
            serde_json::from_value(sink).unwrap()
        };
        let delivered = || sink(0, None);
        let waiting = || sink(3, Some("2026-11-28T04:56:00Z"));
        for (sinks, line) in [
            (vec![], "spool     84 of 1000 bytes\n"),
            (vec![delivered()], "spool     84 of 1000 bytes\n"),
            (vec![delivered(), waiting()], "spool     84 of 1000 bytes, oldest alert 5 min ago\n"),
        ] {
            report.delivery.sinks = sinks;
            let text = status_view(&report, now);
            assert!(text.contains(line), "{text}");
        }
        assert!(status_view(&report, now).contains("3 alerts, 0 rows wait, nothing sent yet\n"));
    }

    #[test]
    fn a_reason_is_escaped_once() {
        let now = "2026-11-28T05:01:00Z".parse().unwrap();
        let mut report = hostile(1);
        report.components[0].name = "feed x".to_owned();
        report.components[0].reason = format!("no collection {:?}\u{1b}", "a\n\"");
        let text = status_view(&report, now);
        assert!(text.contains(r#"no collection "a\n\""\u{1b}"#), "{text}");
    }

    #[test]
    fn hostile_names_do_not_break_the_view() {
        let now = "2026-11-28T05:01:00Z".parse().unwrap();
        let text = status_view(&hostile(9), now);
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
        assert!(text.starts_with("DEGRADED  netsensor "), "{text}");
        assert!(
            text.contains("\nfeed      and 5 more; see netsensor feeds, or --json\n"),
            "{text}"
        );
        assert!(text.contains("\nsink      and 6 more; see --json\n"), "{text}");
        let mut well = hostile(4);
        well.state = HealthState::Ok;
        well.components = vec![Component {
            name: "spool".to_owned(),
            state: HealthState::Ok,
            reason: String::new(),
            since: now,
        }];
        let text = status_view(&well, now);
        assert!(text.starts_with("OK        netsensor "), "{text}");
        assert!(text.lines().count() <= 40, "{text}");
    }
}
