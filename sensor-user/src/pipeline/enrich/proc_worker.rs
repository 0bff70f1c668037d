//! `ProcWorker`: process facts from /proc, read by the worker `proc`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::proc_fs::{ProcFacts, ProcFolder, ProcSource};
use crate::privsep::{Channel, WorkerClient, serve};

/// A request to the worker.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// Facts of a process, by its pid.
    Facts(u32),
    /// Start time and working directory of a process, by its pid.
    WorkingDirectory(u32),
}

/// A response of the worker.
#[derive(Debug, Serialize, Deserialize)]
enum Response {
    Facts(Option<ProcFacts>),
    WorkingDirectory(Option<(u64, String)>),
}

/// The worker as a source of process facts.
#[derive(Debug)]
pub struct ProcWorker(pub Arc<WorkerClient>);

impl ProcSource for ProcWorker {
    fn facts(&self, pid: u32) -> Option<ProcFacts> {
        match self.request(&Request::Facts(pid))? {
            Response::Facts(facts) => facts,
            Response::WorkingDirectory(_) => None,
        }
    }

    fn working_directory(&self, pid: u32) -> Option<(u64, String)> {
        match self.request(&Request::WorkingDirectory(pid))? {
            Response::WorkingDirectory(folder) => folder,
            Response::Facts(_) => None,
        }
    }
}

impl ProcWorker {
    fn request(&self, request: &Request) -> Option<Response> {
        let response = self.0.request(request);
        response.inspect_err(|error| tracing::debug!(%error, "worker proc")).ok()
    }
}

/// The worker's side: responds with what /proc has.
pub(crate) fn serve_process_facts(channel: Channel) -> io::Result<()> {
    let folder = ProcFolder::new(Path::new("/proc"));
    serve(channel, |request| match request {
        Request::Facts(pid) => Response::Facts(folder.facts(pid)),
        Request::WorkingDirectory(pid) => Response::WorkingDirectory(folder.working_directory(pid)),
    })
}
