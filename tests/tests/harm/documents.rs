//! JSON that is cut, or nested without end.

use sensor_user::intel::FeedKind;
use serde_json::Value;

use super::{GOOD, Harm, json_kinds, samples};

/// Brackets inside each other.
const DEEP: usize = 1_000_000;

#[tokio::test]
async fn a_document_that_is_cut_is_refused() {
    for (kind, change) in json_kinds() {
        let harm = Harm::of(kind, change).await;
        let good = samples::good(&harm.config);
        for length in [good.len() / 2, good.len() - 2] {
            let report = harm.pull_body(good.split_at(length).0).await;
            harm.assert_refused(&report, "ends ");
        }
        harm.pull_good().await;
    }
}

/// Whatever is nested without end, the reader comes to its own end: it is never killed by a stack
/// that is too small.
#[tokio::test]
async fn a_document_that_is_nested_without_end_is_refused() {
    let closed = "[".repeat(DEEP) + &"]".repeat(DEEP);
    let objects = "{\"objects\":".repeat(DEEP / 8) + "1" + &"}".repeat(DEEP / 8);
    for (kind, change) in json_kinds() {
        for body in ["[".repeat(DEEP), closed.clone(), objects.clone()] {
            let harm = Harm::new(kind, change).await;
            let report = harm.pull_body(&body).await;
            let what = format!("{kind:?} {:.20}: {}", body, report.reason);
            assert!(!report.reason.contains("the reader"), "{what}");
            // A document in which nothing is known is none, or one that has nothing to say.
            assert!(!report.reason.is_empty() || report.indicators == 0, "{what}");
            assert_eq!(report.indicators, 0, "{what}");
            harm.pull_good().await;
            let report = harm.pull_body(&body).await;
            let what = format!("{kind:?} {:.20}: {}", body, report.reason);
            assert!(!report.reason.contains("the reader"), "{what}");
            harm.assert_holds(&what);
        }
    }
}

/// One entry with a member that is nested without end costs at most itself.
#[tokio::test]
async fn an_entry_that_is_nested_without_end_costs_only_itself() {
    let nest = "[".repeat(DEEP / 4) + &"]".repeat(DEEP / 4);
    for (kind, change) in json_kinds() {
        let harm = Harm::of(kind, change).await;
        let mut entries: Vec<Value> =
            (1..=GOOD).map(|number| samples::entry(&harm.config, number)).collect();
        entries.push(samples::entry(&harm.config, GOOD));
        let mut texts: Vec<String> = entries.iter().map(Value::to_string).collect();
        let last = texts.last_mut().unwrap();
        last.insert_str(1, &format!("\"x\":{nest},"));
        let report = harm.pull_body(samples::document(&harm.config, &texts)).await;
        let refused = kind == FeedKind::List;
        assert_eq!(report.reason.is_empty(), !refused, "{kind:?}: {}", report.reason);
        assert!(!report.reason.contains("the reader"), "{kind:?}: {}", report.reason);
        harm.assert_holds(&format!("{kind:?}"));
    }
}
