//! JSON documents that are truncated, or nested very deeply.

use sensor_user::intel::FeedKind;
use serde_json::Value;

use super::{GOOD, TestFeed, json_kinds, samples};

/// Number of nested brackets.
const DEEP: usize = 1_000_000;

#[tokio::test]
async fn a_truncated_document_is_refused() {
    for (kind, change) in json_kinds() {
        let feed = TestFeed::of(kind, change).await;
        let good = samples::good(&feed.config);
        for length in [good.len() / 2, good.len() - 2] {
            let report = feed.pull_body(good.split_at(length).0).await;
            feed.assert_refused(&report, "ends ");
        }
        feed.pull_good().await;
    }
}

/// For any deep nesting the reader exits by itself: a stack overflow never kills it.
#[tokio::test]
async fn a_deeply_nested_document_is_refused() {
    let closed = "[".repeat(DEEP) + &"]".repeat(DEEP);
    let objects = "{\"objects\":".repeat(DEEP / 8) + "1" + &"}".repeat(DEEP / 8);
    for (kind, change) in json_kinds() {
        for body in ["[".repeat(DEEP), closed.clone(), objects.clone()] {
            let feed = TestFeed::new(kind, change).await;
            let report = feed.pull_body(&body).await;
            let context = format!("{kind:?} {:.20}: {}", body, report.reason);
            assert!(!report.reason.contains("the reader"), "{context}");
            // A document without a known member is refused, or has no entries.
            assert!(!report.reason.is_empty() || report.indicators == 0, "{context}");
            assert_eq!(report.indicators, 0, "{context}");
            feed.pull_good().await;
            let report = feed.pull_body(&body).await;
            let context = format!("{kind:?} {:.20}: {}", body, report.reason);
            assert!(!report.reason.contains("the reader"), "{context}");
            feed.assert_holds(&context);
        }
    }
}

/// A deeply nested member costs at most its own entry.
#[tokio::test]
async fn a_deeply_nested_entry_costs_only_itself() {
    let nest = "[".repeat(DEEP / 4) + &"]".repeat(DEEP / 4);
    for (kind, change) in json_kinds() {
        let feed = TestFeed::of(kind, change).await;
        let mut entries: Vec<Value> =
            (1..=GOOD).map(|number| samples::entry(&feed.config, number)).collect();
        entries.push(samples::entry(&feed.config, GOOD));
        let mut texts: Vec<String> = entries.iter().map(Value::to_string).collect();
        let last = texts.last_mut().unwrap();
        last.insert_str(1, &format!("\"x\":{nest},"));
        let report = feed.pull_body(samples::document(&feed.config, &texts)).await;
        let refused = kind == FeedKind::List;
        assert_eq!(report.reason.is_empty(), !refused, "{kind:?}: {}", report.reason);
        assert!(!report.reason.contains("the reader"), "{kind:?}: {}", report.reason);
        feed.assert_holds(&format!("{kind:?}"));
    }
}
