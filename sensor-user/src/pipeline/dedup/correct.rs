//! Corrections of a process that was a guess when its connection was admitted.

use std::sync::Arc;

use super::alert::Alert;
use super::sighting::Sighting;
use super::window::{Dedup, Unsaved, WindowKey};
use crate::pipeline::aggregate::{Flow, Guess, Phase};
use crate::pipeline::matcher::Hit;

impl Dedup {
    /// Corrects the process of a connection that was admitted with the process of `guess`. The alert that
    /// it raised stays; where it was a further connection of a window, it counts to that of its owner.
    pub fn correct(&mut self, hit: &Hit, flow: &Flow, guess: &Guess, alerts: &mut Vec<Alert>) {
        let guessed = Flow { process: Arc::clone(&guess.process), ..flow.clone() };
        let key = WindowKey::of(hit, &guessed);
        let is_same_key = key == WindowKey::of(hit, flow);
        let Some(window) = self.windows.get_mut(&key) else { return };
        if guess.since < window.opened {
            return;
        }
        let was_saved = window.unsaved == Unsaved::Nothing;
        let opened = Flow { time: guess.since, phase: Phase::Opened, ..flow.clone() };
        let is_further = window.further > 0 && guess.since > window.opened;
        if is_same_key {
            let latest = Sighting::from(&opened);
            if (window.latest.time, window.latest.source_port) == (latest.time, latest.source_port)
            {
                window.latest = latest;
                window.unsaved = window.unsaved.max(Unsaved::Counted);
            }
        } else if is_further {
            window.further -= 1;
            window.unsaved = window.unsaved.max(Unsaved::Counted);
        }
        if self.is_persistent && was_saved && window.unsaved != Unsaved::Nothing {
            self.unsaved.push(Arc::new(key));
        }
        if !is_same_key && is_further {
            self.admitted = self.admitted.saturating_sub(flow.connections);
            self.admit(hit, &opened, alerts);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::base::protocol::Protocol;
    use crate::intel::{Indicator, parse_prefix};
    use crate::pipeline::aggregate::{Attribution, Direction};
    use crate::pipeline::dedup::AlertKind;
    use crate::pipeline::enrich::Process;
    use crate::pipeline::matcher::Via;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn process(pid: u32, path: &str) -> Arc<Process> {
        Arc::new(Process { pid: Some(pid), path: path.to_owned(), ..Process::default() })
    }

    /// Inbound connection from port 1000 + `second`.
    fn flow(second: i64, process: &Arc<Process>) -> Flow {
        Flow {
            time: at(second),
            phase: Phase::Opened,
            computer: "host.example".into(),
            direction: Direction::Inbound,
            protocol: Protocol::Tcp,
            local: [192, 0, 2, 1].into(),
            local_port: Some(80),
            remote: [203, 0, 113, 7].into(),
            remote_port: u16::try_from(1000 + second).ok(),
            process: Arc::clone(process),
            attribution: Attribution::Listener,
            connections: 1,
            preexisting: false,
            translated: None,
            bytes_sent: 0,
            bytes_received: 0,
        }
    }

    /// Admits a connection at each second, guessed to belong to `guess`, and corrects each at once.
    /// Returns kind, process and count of all alerts.
    fn alerts(
        guess: &Arc<Process>,
        owner: &Arc<Process>,
        seconds: &[i64],
    ) -> Vec<(AlertKind, u32, u64)> {
        let blank = Indicator::blank(parse_prefix("203.0.113.0/24").unwrap());
        let indicator = Arc::new(Indicator { id: "indicator--1".to_owned(), ..blank });
        let hit = Hit { indicator, via: Via::Direct, address: [203, 0, 113, 7].into() };
        let mut dedup =
            Dedup::new("agent".to_owned(), SignedDuration::from_hours(1), 10, Arc::default());
        let mut alerts = Vec::new();
        for second in seconds {
            let opened = flow(*second, guess);
            dedup.admit(&hit, &opened, &mut alerts);
            let corrected = Flow {
                time: at(second + 1),
                phase: Phase::Active,
                process: Arc::clone(owner),
                attribution: Attribution::FirstIo,
                ..opened
            };
            let guess = Guess { process: Arc::clone(guess), since: at(*second) };
            dedup.correct(&hit, &corrected, &guess, &mut alerts);
        }
        dedup.close_all(&mut alerts);
        assert_eq!(dedup.admitted(), seconds.len() as u64);
        assert_eq!(alerts.iter().map(|it| it.connection_count).sum::<u64>(), dedup.admitted());
        alerts
            .iter()
            .map(|it| (it.alert_kind, it.process_id.unwrap(), it.connection_count))
            .collect()
    }

    #[test]
    fn a_summary_has_the_owner_of_the_same_executable() {
        let (master, worker) = (process(1, "/usr/sbin/nginx"), process(2, "/usr/sbin/nginx"));
        let expected = [(AlertKind::New, 1, 1), (AlertKind::Summary, 2, 2)];
        assert_eq!(alerts(&master, &worker, &[10, 20, 30]), expected);
        // The alert of a single connection is out already.
        assert_eq!(alerts(&master, &worker, &[10]), [(AlertKind::New, 1, 1)]);
    }

    #[test]
    fn further_connections_of_another_executable_count_to_its_own_window() {
        let (activator, service) =
            (process(1, "/usr/lib/activator"), process(2, "/usr/bin/service"));
        let expected = [(AlertKind::New, 1, 1), (AlertKind::New, 2, 1), (AlertKind::Summary, 2, 2)];
        assert_eq!(alerts(&activator, &service, &[10, 20, 30, 40]), expected);
    }

    #[test]
    fn an_unknown_process_is_corrected_too() {
        let unknown = Arc::new(Process { pid: Some(0), ..Process::default() });
        let expected = [(AlertKind::New, 0, 1), (AlertKind::New, 2, 1)];
        assert_eq!(alerts(&unknown, &process(2, "/usr/bin/service"), &[10, 20]), expected);
    }
}
