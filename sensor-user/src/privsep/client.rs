//! `Helper`: the agent's side of a helper that is asked.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::Kind;
use super::ipc::Channel;
use super::ipc::Message;
use super::spawn::Starter;
use crate::base::counters::Stats;

/// Answers in a row that may be late before the helper is given up.
const LATE_MAX: u32 = 3;
/// Between two starts.
const START_EVERY: Duration = Duration::from_millis(500);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// It has ended, and is not started again yet.
    #[error("it is not running")]
    Down,
    /// It ended meanwhile.
    #[error("it ended ({0})")]
    Ended(String),
    /// The answer did not come in time.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// It cannot be talked to.
    #[error("talk to it: {0}")]
    Talk(#[from] io::Error),
    /// It says what nobody understands.
    #[error("its answer is not understood: {0}")]
    Answer(#[from] postcard::Error),
}

/// A helper; it is asked one question at a time.
pub struct Helper {
    kind: Kind,
    starter: Arc<Starter>,
    most: usize,
    limit: Duration,
    line: Mutex<Line>,
    /// Why it is not well; beside the line, so that it is known while a question is under way.
    fault: Mutex<Option<String>>,
    stats: Arc<Stats>,
}

impl fmt::Debug for Helper {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Helper").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The way to it.
struct Line {
    /// `None` while it is down.
    channel: Option<Channel>,
    /// Of the last question.
    number: u64,
    late: u32,
    started: Instant,
}

impl Helper {
    pub(super) fn start(
        kind: Kind,
        starter: Arc<Starter>,
        (most, limit): (usize, Duration),
        stats: &Arc<Stats>,
    ) -> io::Result<Self> {
        let channel = Some(starter.start_child(&kind, most)?);
        let line = Mutex::new(Line { channel, number: 0, late: 0, started: Instant::now() });
        let stats = Arc::clone(stats);
        Ok(Self { kind, starter, most, limit, line, fault: Mutex::default(), stats })
    }

    /// Asks, and waits for the answer.
    pub fn ask<Q: Serialize, A: DeserializeOwned>(&self, question: &Q) -> Result<A, HelperError> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = line.ask(question, self.limit);
        match &answer {
            Ok(_) => {
                line.late = 0;
                self.note(None);
            }
            Err(HelperError::Down) => {}
            Err(HelperError::Late(_)) if line.late < LATE_MAX => {
                line.late += 1;
                self.stats.helper_answers_late.increment();
            }
            Err(error) => {
                line.channel = None;
                self.note(Some(error.to_string()));
            }
        }
        answer
    }

    /// Why it is not well, if so. One that has ended is started again.
    pub fn check(&self) -> Option<String> {
        // Who asks it knows by itself.
        if let Ok(mut line) = self.line.try_lock() {
            self.look_after(&mut line);
        }
        self.fault().clone()
    }

    fn look_after(&self, line: &mut Line) {
        match &mut line.channel {
            Some(channel) if channel.is_hung_up() => {
                let ended = last_words(channel);
                line.channel = None;
                self.note(Some(HelperError::Ended(ended).to_string()));
            }
            // It was started again, and lives.
            Some(_) if line.late == 0 && line.started.elapsed() >= START_EVERY => self.note(None),
            Some(_) => {}
            None if line.started.elapsed() >= START_EVERY => {
                line.started = Instant::now();
                line.late = 0;
                match self.starter.start_child(&self.kind, self.most) {
                    Ok(channel) => {
                        self.stats.helpers_restarted.increment();
                        line.channel = Some(channel);
                    }
                    Err(error) => self.note(Some(format!("start it again: {error}"))),
                }
            }
            None => {}
        }
    }

    fn note(&self, fault: Option<String>) {
        *self.fault() = fault;
    }

    fn fault(&self) -> MutexGuard<'_, Option<String>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn ask<Q: Serialize, A: DeserializeOwned>(
        &mut self,
        question: &Q,
        limit: Duration,
    ) -> Result<A, HelperError> {
        self.number += 1;
        let until = Instant::now() + limit;
        let channel = self.channel.as_mut().ok_or(HelperError::Down)?;
        match channel.send(&(self.number, question)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Err(HelperError::Ended(last_words(channel)));
            }
            sent => sent?,
        }
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match channel.receive_bytes(Some(left))? {
                None => return Err(HelperError::Late(limit)),
                Some(Message::Bytes(bytes)) => {
                    let (number, rest) = postcard::take_from_bytes::<u64>(&bytes)?;
                    // Of a question that was given up.
                    if number == self.number {
                        return Ok(postcard::from_bytes(rest)?);
                    }
                }
                Some(Message::Ended(status)) => {
                    return Err(HelperError::Ended(status.to_string()));
                }
                Some(Message::Closed) => {
                    return Err(HelperError::Ended("without a word".to_owned()));
                }
            }
        }
    }
}

/// How a helper that has ended says that it did.
fn last_words(channel: &mut Channel) -> String {
    loop {
        match channel.receive_bytes(Some(Duration::ZERO)) {
            Ok(Some(Message::Bytes(_))) => {}
            Ok(Some(Message::Ended(status))) => return status.to_string(),
            _ => return "without a word".to_owned(),
        }
    }
}
