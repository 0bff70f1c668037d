//! Requests that a test sends with curl, a client independent of the agent's.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::io::Write as _;
use std::process::{Command, Stdio};

/// Response that curl received.
#[derive(Debug, Clone)]
pub struct CurlResponse {
    /// HTTP status code of the response.
    pub status: u16,
    /// Body of the response.
    pub body: String,
}

/// Sends a request to `url` with these curl arguments, such as `-XPOST`, and an optional `body`.
pub fn curl(arguments: &[&str], url: &str, body: Option<&str>) -> CurlResponse {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--noproxy", "*", "--write-out", "\n%{http_code}"]);
    command.args(arguments);
    if body.is_some() {
        command.args(["--data-binary", "@-"]);
    }
    command.arg(url).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("curl");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(body.unwrap_or_default().as_bytes()).expect("curl reads");
    drop(stdin);
    let output = child.wait_with_output().expect("curl's end");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').expect("a status");
    CurlResponse { status: status.parse().expect("a status"), body: body.to_owned() }
}
