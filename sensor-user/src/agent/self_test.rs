//! `netsensor self-test`: one real connection to a planted indicator, seen end to end.

use std::collections::HashSet;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use jiff::SignedDuration;

use super::computer_name::computer;
use super::sensor::Sensor;
use crate::base::clock::{Clock, SystemClock};
use crate::base::counters::Stats;
use crate::config::Config;
use crate::intel::{Indicator, IndicatorSet, host};
use crate::pipeline::dedup::{Alert, Dedup, DedupState};
use crate::pipeline::matcher::{AllowList, Matcher};
use crate::pipeline::{Detection, PipelineOutput};
use crate::privsep::Workers;
use crate::schema::TableRow;

/// Time limit for the alert.
const LIMIT: SignedDuration = SignedDuration::from_secs(5);

/// Result of the self-test.
#[derive(Debug)]
pub struct SelfTest {
    /// Attached probes.
    pub probes: Vec<&'static str>,
    /// The alert of the planted indicator.
    pub alert: Alert,
    /// Time from the SYN to the alert.
    pub latency: SignedDuration,
}

#[derive(Default)]
struct CollectedAlerts(Vec<Alert>);

impl PipelineOutput for CollectedAlerts {
    fn alerts(&mut self, alerts: Vec<Alert>, _state: Option<DedupState>) {
        self.0.extend(alerts);
    }

    fn rows(&mut self, _rows: Vec<TableRow>) {}
}

/// Loads the probes, connects to a loopback address that only the planted indicator names, and waits for
/// the alert. An error reports the stage at which it was lost.
pub fn self_test(config: &Config) -> anyhow::Result<SelfTest> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stats = Arc::new(Stats::default());
    let workers = Workers::start(&config.agent.log, None, &stats).context("start the workers")?;
    let mut sensor = Sensor::open(config, computer(config), Arc::clone(&clock), &workers, &stats)?;
    sensor.begin()?;
    let planted = planted_address();
    let mut detection = detection(planted, &stats);
    let listener = TcpListener::bind((planted, 0)).context("listen on the planted address")?;
    let target = listener.local_addr().context("listen on the planted address")?;
    let began = clock.now();
    let _client = TcpStream::connect_timeout(&target, Duration::from_secs(2))
        .with_context(|| format!("connect to the planted address {target}"))?;

    let (mut collected, mut changes) = (CollectedAlerts::default(), Vec::new());
    while clock.now().duration_since(began) < LIMIT {
        sensor.poll(&mut changes);
        drop(sensor.dns_answers());
        for change in changes.drain(..) {
            detection.observe(&change, &mut collected);
        }
        if let Some(alert) = collected.0.pop() {
            let probes = sensor.capture().hooks().attached().collect();
            check(&alert)?;
            return Ok(SelfTest { probes, latency: clock.now().duration_since(began), alert });
        }
        sensor.wait(false)?;
    }
    bail!("no alert for a connection to {target} within {LIMIT}: {}", lost(&sensor, &stats))
}

/// A random address, so that other traffic does not match.
fn planted_address() -> IpAddr {
    let [a, b, c] = std::array::from_fn(|_| fastrand::u8(1..=254));
    IpAddr::from([127, a, b, c])
}

fn detection(planted: IpAddr, stats: &Arc<Stats>) -> Detection {
    let prefix = host(planted);
    let indicator = Indicator {
        id: "self-test".to_owned(),
        feed: "self-test".into(),
        entity: planted.to_string(),
        description: "planted by netsensor self-test".to_owned(),
        ..Indicator::blank(prefix)
    };
    let set =
        Arc::new(ArcSwap::from_pointee(IndicatorSet::from_indicators(vec![Arc::new(indicator)])));
    let matcher = Matcher::new(set, AllowList::default(), HashSet::new(), Arc::clone(stats));
    let window = SignedDuration::from_hours(1);
    let dedup = Dedup::new("self-test".to_owned(), window, 16, Arc::clone(stats));
    Detection::new(None, matcher, None, dedup, Arc::clone(stats))
}

/// Checks that the alert names this process.
fn check(alert: &Alert) -> anyhow::Result<()> {
    let expected = Some(std::process::id());
    if alert.process_id != expected {
        bail!(
            "the alert names process {:?}, the connection belongs to {expected:?}",
            alert.process_id
        );
    }
    if alert.process_path.is_empty() {
        bail!("the alert has no path of the executable");
    }
    Ok(())
}

fn lost(sensor: &Sensor, stats: &Stats) -> String {
    let attempted = sensor.capture().counters().map_or(0, |kernel| kernel.tcp_attempted);
    if attempted == 0 {
        return "the probe saw no TCP state change; does another tracing tool interfere?"
            .to_owned();
    }
    if stats.tcp_records_received.value() == 0 {
        return format!("{attempted} records were sent and none arrived");
    }
    if stats.flows_observed.value() == 0 {
        return "records arrived, and none was a connection".to_owned();
    }
    format!("{} connections were seen, and none matched", stats.flows_observed.value())
}
