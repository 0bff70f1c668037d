//! `DuckDB` in a Python child process: an independent reader of netsensor's output.
#![expect(clippy::expect_used, reason = "a harness stops where its own machinery fails")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::python::python_with;

/// Reads one JSON document with setup statements and queries, and prints one JSON array of rows per
/// query. Queries contain no `;`.
const CHILD: &str = r#"
import duckdb, json, sys
request = json.load(sys.stdin)
db = duckdb.connect()
db.execute("SET TimeZone = 'UTC'")
for statement in request["first"]:
    db.execute(statement)
for query in request["queries"]:
    rows = db.execute(f"SELECT to_json(result)::VARCHAR FROM ({query}\n) AS result").fetchall()
    print("[" + ",".join(row[0] for row in rows) + "]")
"#;

/// Python interpreter with `DuckDB`: the system's, or that of the venv of `cargo xtask test`.
pub fn python_with_duckdb() -> Option<PathBuf> {
    python_with("duckdb")
}

/// Runs the statements `first`, then `queries`. Returns an array of objects for each query.
pub fn query_duckdb(python: &PathBuf, first: &[String], queries: &[String]) -> Vec<Value> {
    let mut child = Command::new(python)
        .args(["-c", CHILD])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a Python that was found starts");
    // Each query becomes a subquery in parentheses.
    let bare = |query: &String| query.trim_end().trim_end_matches(';').to_owned();
    let queries: Vec<String> = queries.iter().map(bare).collect();
    let request = json!({ "first": first, "queries": queries }).to_string();
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(request.as_bytes()).expect("Python reads");
    drop(stdin);
    let output = child.wait_with_output().expect("Python's end");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}
