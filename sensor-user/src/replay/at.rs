//! `replay --at`: the result of the original rule at one instant.
//!
//! Rows of the lookback before that instant, and all later rows, are matched against the indicators
//! that are live at it. Each pair of indicator and remote address raises exactly one alert, which has
//! the latest row of the pair. Rows are read once, and only the latest of each pair is kept.
//!
//! `AlertId` is a stable id of `replay-at`, the instant, the start of the window, `IndicatorId` and
//! `RemoteIp`: the same options give the same ids, however the rows are spread over files.

use std::io::{self, Write};
use std::sync::Arc;

use jiff::Timestamp;

use super::indicators::IndicatorInput;
use super::options::{AtOptions, AtSummary, ReplayError, Window};
use super::reject_log::RejectLog;
use super::search::{Pair, Search, SearchResult};
use super::{indicators, input};
use crate::base::stable_id::stable_id;
use crate::pipeline::dedup::{Alert, AlertKind};

/// Runs the rule. Writes each [`Alert`] to `out` as a JSON line, sorted by `IndicatorId` and `RemoteIp`
/// (as text, by bytes), and malformed lines to `rejects` as `file:line: reason`.
///
/// A row that is no hit is checked by [`AtOptions::checks`], and not for the types of its other
/// columns.
pub fn run(
    options: &AtOptions,
    out: &mut dyn Write,
    rejects: &mut dyn Write,
) -> Result<AtSummary, ReplayError> {
    input::check_stdin(&options.connections, &options.indicators)?;
    let mut log = RejectLog::new(rejects, "indicators");
    let indicator_input = IndicatorInput {
        files: &options.indicators,
        at: options.at,
        lookback: options.indicator_lookback,
        progress: &options.progress,
    };
    let set = indicators::load(&indicator_input, &mut log)?;
    let indicators_rejected = log.finish().map_err(ReplayError::WriteRejects)?;

    let mut log = RejectLog::new(rejects, "rows");
    let start = options.at.checked_sub(options.lookback).unwrap_or(Timestamp::MIN);
    let window = Window { start, at: options.at };
    let mut search = Search::new(&set, window, options.checks, options.progress.clone());
    for path in &options.connections {
        search.read_file(path, &mut log)?;
    }
    let rows_rejected = log.finish().map_err(ReplayError::WriteRejects)?;
    let SearchResult { rows, rows_in_window, lost, mut pairs } = search.finish()?;
    pairs.sort_unstable_by(|a, b| {
        (&a.hit.indicator.id, &a.latest.remote_ip).cmp(&(&b.hit.indicator.id, &b.latest.remote_ip))
    });
    let alerts = pairs.len() as u64;
    write_alerts(pairs, window, out).map_err(ReplayError::WriteAlerts)?;
    let indicators = set.len() as u64;
    Ok(AtSummary {
        rows,
        rows_in_window,
        rows_rejected,
        lost,
        indicators,
        indicators_rejected,
        alerts,
    })
}

fn write_alerts(pairs: Vec<Pair>, window: Window, out: &mut dyn Write) -> io::Result<()> {
    let (start, at) = (window.start.to_string(), window.at.to_string());
    for Pair { hit, latest, tally, .. } in pairs {
        let id = stable_id(&["replay-at", &at, &start, &hit.indicator.id, &latest.remote_ip]);
        let latest = Arc::unwrap_or_clone(latest);
        let alert = Alert::new(AlertKind::New, id, &hit, latest, tally);
        serde_json::to_writer(&mut *out, &alert)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}
