//! The banner of a started agent: six lines.

use super::confinement::Confined;
use super::sensor::Sensor;
use crate::base::escape::visible_part;
use crate::config::Config;
use crate::deliver::SinkKind;
use crate::intel::FeedStatus;
use crate::pipeline::capture::HookState;

/// Maximum length of a reason or name, characters.
const TEXT_MAX: usize = 200;

/// Version, probes on, probes off with the reason, indicators and sinks, confinement, state directory.
pub(crate) fn lines(
    config: &Config,
    sensor: &Sensor,
    confined: &Confined,
    feeds: &[FeedStatus],
    agent_id: &str,
) -> Vec<String> {
    let capture = sensor.capture();
    let (mut on, mut off) = (Vec::new(), Vec::new());
    for hook in capture.hooks().iter() {
        match &hook.state {
            HookState::On => on.push(hook.attach.to_owned()),
            HookState::Off(reason) => off.push(format!("{} ({reason})", hook.attach)),
            HookState::NotNeeded => {}
        }
    }
    match sensor.nat_unavailable() {
        None => on.push("conntrack".to_owned()),
        Some(reason) => off.push(format!("conntrack ({reason})")),
    }
    if !capture.missing_members().is_empty() {
        off.push(format!("not in this kernel: {}", capture.missing_members().join(", ")));
    }
    let off = if off.is_empty() { "none".to_owned() } else { off.join("; ") };
    vec![
        format!(
            "netsensor {} watches all TCP connections{} of this host, in every network namespace",
            env!("CARGO_PKG_VERSION"),
            if capture.hooks().sees_udp() { " and UDP flows" } else { "" }
        ),
        format!("probes on: {}", on.join(", ")),
        format!("probes off: {off}"),
        format!("indicators: {}; alerts to {}", indicators(feeds), sinks(config)),
        format!("confined: {}", visible_part(&confined.to_string(), 4 * TEXT_MAX)),
        format!("state: {}, agent id {agent_id}", config.agent.state_dir.display()),
    ]
}

fn indicators(feeds: &[FeedStatus]) -> String {
    if feeds.is_empty() {
        return "no feed is configured, so nothing can alert".to_owned();
    }
    let each = feeds.iter().map(|feed| match (&feed.last_error, feed.last_good) {
        (Some(error), _) => visible_part(error, TEXT_MAX),
        (None, None) => format!("{}: first pull under way", feed.name),
        (None, Some(_)) => format!("{} from {}", feed.indicators, feed.name),
    });
    each.collect::<Vec<_>>().join(", ")
}

fn sinks(config: &Config) -> String {
    let names = config.sinks.iter().filter(|sink| sink.alerts).map(|sink| match &sink.kind {
        SinkKind::Stdout => "standard output".to_owned(),
        SinkKind::Console => "standard error".to_owned(),
        SinkKind::File(file) => file.path.display().to_string(),
        SinkKind::Parquet(_) => format!("parquet sink {}", sink.name),
        SinkKind::Kafka(_) => format!("kafka sink {}", sink.name),
        SinkKind::Nats(_) => format!("nats sink {}", sink.name),
        SinkKind::Syslog(_) => format!("syslog sink {}", sink.name),
        SinkKind::Http(_) => format!("http sink {}", sink.name),
        SinkKind::Azure(_) => format!("azure sink {}", sink.name),
        SinkKind::Splunk(_) => format!("splunk sink {}", sink.name),
        SinkKind::Elasticsearch(_) => format!("elasticsearch sink {}", sink.name),
        SinkKind::Otlp(_) => format!("otlp sink {}", sink.name),
    });
    names.collect::<Vec<_>>().join(", ")
}
