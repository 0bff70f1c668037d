//! Indicators of a replay: all files of rows are one table, each list is a feed of its own.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::at::{AtOptions, ReplayError};
use super::input;
use super::reject_log::RejectLog;
use crate::intel::{Indicator, PrefixPolicy, Rejects, RowReader, parse_list};

/// Reads all indicator files: those that are live at `options.at`, no id twice. What of them is
/// malformed goes to `log`.
pub(super) fn load(
    options: &AtOptions,
    log: &mut RejectLog<'_>,
) -> Result<Vec<Arc<Indicator>>, ReplayError> {
    let policy = PrefixPolicy::default();
    let mut rows = RowReader::new("".into(), policy, options.at, options.indicator_lookback);
    let mut listed = Vec::new();
    for path in &options.indicators {
        let failed = |source| ReplayError::Read { path: path.clone(), source };
        let input = input::open(path).map_err(failed)?;
        let feed = feed_name(path);
        let rejects = if input.first == Some(b'{') {
            rows.set_feed(feed);
            rows.read(input.reader).map_err(failed)?;
            rows.take_rejects()
        } else {
            let list = parse_list(input.reader, &feed, policy, (options.at, None));
            let list = list.map_err(failed)?;
            listed.extend(list.indicators);
            list.rejects
        };
        note(&rejects, path, log).map_err(ReplayError::WriteRejects)?;
    }
    let mut all = rows.finish(options.at).indicators;
    if !listed.is_empty() {
        let mut ids: HashSet<String> = all.iter().map(|indicator| indicator.id.clone()).collect();
        all.extend(listed.into_iter().filter(|indicator| ids.insert(indicator.id.clone())));
    }
    Ok(all.into_iter().map(Arc::new).collect())
}

/// A feed is named after its file.
fn feed_name(path: &Path) -> Arc<str> {
    if input::is_stdin(path) {
        return "stdin".into();
    }
    path.file_name().map_or_else(|| "".into(), |name| name.to_string_lossy().into())
}

fn note(rejects: &Rejects, path: &Path, log: &mut RejectLog<'_>) -> std::io::Result<()> {
    let mut unseen = rejects.malformed();
    for reject in rejects.kept().iter().filter(|reject| reject.reason.is_malformed()) {
        log.add(path, reject.place, &format!("{}: {:?}", reject.reason, reject.text))?;
        unseen -= 1;
    }
    log.add_unseen(unseen);
    Ok(())
}
