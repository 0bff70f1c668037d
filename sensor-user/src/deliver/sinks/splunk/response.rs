//! What an answer of the collector means.

use serde::Deserialize;

use crate::base::escape::escaped;
use crate::deliver::DeliverError;
use crate::deliver::batch::Sent;
use crate::deliver::sinks::http_post::Answer;

/// Bytes of an answer at most.
pub(super) const MOST: usize = 64 << 10;

/// The collector's words.
#[derive(Debug, Default, Deserialize)]
struct Words {
    #[serde(default)]
    text: String,
    #[serde(default)]
    code: u16,
    /// Index of the event that was refused; those before it are indexed.
    #[serde(rename = "invalid-event-number")]
    invalid: Option<usize>,
}

/// It has no room for more events.
const BUSY: u16 = 9;
/// What it says of its health: queues are full, the acknowledgement service is away, or both.
const UNWELL: std::ops::RangeInclusive<u16> = 18..=20;
/// The collector does not know the index, or the token may not write to it.
const BAD_INDEX: u16 = 7;

/// The collector's code; 0 where the answer is not the collector's, or is a success.
pub(super) fn code(answer: &Answer) -> u16 {
    serde_json::from_slice::<Words>(&answer.body).unwrap_or_default().code
}

/// What became of `count` events that were not taken as a whole.
pub(super) fn refused(answer: Answer, count: usize) -> Result<Sent, DeliverError> {
    match answer.status {
        401 | 403 => Err(answer.held("check token")),
        404 => Err(answer.held("check url; is the HTTP Event Collector on?")),
        400 => in_part(answer, count),
        503 if code(&answer) == BUSY => Err(answer.held("the server is busy: its queues are full")),
        503 if UNWELL.contains(&code(&answer)) => Err(answer.held("the collector is not well")),
        _ => Err(answer.refusal()),
    }
}

fn in_part(answer: Answer, count: usize) -> Result<Sent, DeliverError> {
    let words: Words = serde_json::from_slice(&answer.body).unwrap_or_default();
    if words.code == BAD_INDEX {
        // This code counts from one, and is not about the event.
        return match words.invalid {
            Some(number) if (2..=count).contains(&number) => {
                Ok(Sent { again: (number - 1..count).collect(), ..Sent::default() })
            }
            _ => Err(answer.held("check index; the token must be allowed to write to it")),
        };
    }
    match words.invalid.filter(|at| *at < count) {
        Some(at) => {
            let why = format!("{} (code {})", escaped(&words.text, 200), words.code);
            let again = (at + 1..count).collect();
            Ok(Sent { again, rejected: vec![(at, why)], ..Sent::default() })
        }
        None => Err(answer.refusal()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::Verdict;

    fn judged(status: u16, body: &str) -> Result<Sent, Verdict> {
        let url = "http://h/".to_owned();
        let body = body.as_bytes().to_vec();
        let answer = Answer { url, status, retry_after: None, body };
        refused(answer, 4).map_err(|error| error.verdict())
    }

    #[test]
    fn an_answer_says_which_events_are_indexed() {
        let later = Err(Verdict::Retry { after: None });
        let sent = |again: &[usize], rejected: Vec<(usize, String)>| {
            Ok(Sent { again: again.to_vec(), rejected, after: None })
        };
        let no_event = |at| vec![(at, "Event field is required (code 12)".to_owned())];
        for (status, body, want) in [
            (503, r#"{"text":"Server is busy","code":9}"#, later.clone()),
            (500, r#"{"text":"Internal server error","code":8}"#, later.clone()),
            (401, r#"{"text":"Token is required","code":2}"#, later.clone()),
            (403, r#"{"text":"Invalid token","code":4}"#, later.clone()),
            (404, "", later.clone()),
            (413, "", Err(Verdict::Split)),
            (400, r#"{"text":"Invalid data format","code":6}"#, Err(Verdict::Isolate)),
            (400, "not JSON", Err(Verdict::Isolate)),
            (
                400,
                r#"{"text":"Event field is required","code":12,"invalid-event-number":1}"#,
                sent(&[2, 3], no_event(1)),
            ),
            (
                400,
                r#"{"text":"Event field is required","code":12,"invalid-event-number":3}"#,
                sent(&[], no_event(3)),
            ),
            (
                400,
                r#"{"text":"Event field is required","code":12,"invalid-event-number":4}"#,
                Err(Verdict::Isolate),
            ),
            (400, r#"{"text":"Incorrect index","code":7,"invalid-event-number":1}"#, later),
            (
                400,
                r#"{"text":"Incorrect index","code":7,"invalid-event-number":3}"#,
                sent(&[2, 3], vec![]),
            ),
        ] {
            assert_eq!(judged(status, body), want, "{status} {body}");
        }
    }
}
