//! What is done with a batch follows from why it was not taken.

use std::io;
use std::time::Duration;

use super::{DeliverError, Verdict, chain};

fn status(status: u16) -> DeliverError {
    let (url, text) = ("http://c/".to_owned(), "why".to_owned());
    DeliverError::Status { url, status, text, retry_after: Some(Duration::from_secs(3)) }
}

#[test]
fn the_verdict_follows_from_the_answer() {
    let later = Verdict::Retry { after: Some(Duration::from_secs(3)) };
    for (code, verdict) in [
        (301, later),
        (400, Verdict::Isolate),
        (401, later),
        (404, later),
        (408, later),
        (409, later),
        (413, Verdict::Split),
        (422, Verdict::Isolate),
        (429, later),
        (500, later),
        (503, later),
        (599, later),
        (600, later),
    ] {
        assert_eq!(status(code).verdict(), verdict, "{code}");
    }
}

#[test]
fn a_stream_without_a_reader_is_closed_and_any_other_trouble_may_pass() {
    for (kind, verdict) in [
        (io::ErrorKind::BrokenPipe, Verdict::Closed),
        (io::ErrorKind::WouldBlock, Verdict::Retry { after: None }),
    ] {
        let error = DeliverError::Stream { stream: "standard output", source: kind.into() };
        assert_eq!(error.verdict(), verdict, "{kind:?}");
    }
    let source = io::ErrorKind::BrokenPipe.into();
    let error = DeliverError::Write { path: "/x".into(), source };
    assert_eq!(error.verdict(), Verdict::Retry { after: None });
}

#[test]
fn a_message_says_each_cause_once() {
    assert_eq!(status(503).to_string(), "post http://c/: the answer is 503: why");
    let source = io::ErrorKind::PermissionDenied.into();
    let error = DeliverError::Write { path: "/x".into(), source };
    assert_eq!(chain(&error), "write /x: permission denied");
}
