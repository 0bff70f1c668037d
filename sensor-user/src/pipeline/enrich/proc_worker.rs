//! `ProcHelper`: what /proc tells of processes, asked of a helper.

use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::proc_fs::{ProcFacts, ProcFolder, ProcSource};
use crate::privsep::{Channel, Helper, serve};

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
enum Question {
    /// The facts of a process.
    Facts(u32),
    /// Its start, and the folder that it works in.
    WorkingDirectory(u32),
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Facts(Option<ProcFacts>),
    WorkingDirectory(Option<(u64, String)>),
}

/// Asks the helper.
#[derive(Debug)]
pub struct ProcHelper(pub Arc<Helper>);

impl ProcSource for ProcHelper {
    fn facts(&self, pid: u32) -> Option<ProcFacts> {
        match self.ask(&Question::Facts(pid))? {
            Answer::Facts(facts) => facts,
            Answer::WorkingDirectory(_) => None,
        }
    }

    fn working_directory(&self, pid: u32) -> Option<(u64, String)> {
        match self.ask(&Question::WorkingDirectory(pid))? {
            Answer::WorkingDirectory(folder) => folder,
            Answer::Facts(_) => None,
        }
    }
}

impl ProcHelper {
    fn ask(&self, question: &Question) -> Option<Answer> {
        let answer = self.0.ask(question);
        answer.inspect_err(|error| tracing::debug!(%error, "helper processes")).ok()
    }
}

/// The helper: answers from /proc.
pub(crate) fn answer(channel: Channel) -> io::Result<()> {
    let folder = ProcFolder::new(Path::new("/proc"));
    serve(channel, |question| match question {
        Question::Facts(pid) => Answer::Facts(folder.facts(pid)),
        Question::WorkingDirectory(pid) => Answer::WorkingDirectory(folder.working_directory(pid)),
    })
}
