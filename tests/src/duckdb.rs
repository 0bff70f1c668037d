//! `DuckDB`, in a Python child: reads what netsensor wrote as somebody else would.
#![expect(clippy::expect_used, reason = "a harness stops where its own machinery fails")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::python::python_with;

/// Reads one JSON document: statements to run first, then queries without a line end; prints one
/// array of JSON rows a query.
const CHILD: &str = r#"
import duckdb, json, sys
asked = json.load(sys.stdin)
db = duckdb.connect()
db.execute("SET TimeZone = 'UTC'")
for statement in asked["first"]:
    db.execute(statement)
for query in asked["queries"]:
    rows = db.execute(f"SELECT to_json(answer)::VARCHAR FROM ({query}\n) AS answer").fetchall()
    print("[" + ",".join(row[0] for row in rows) + "]")
"#;

/// A Python that has `DuckDB`: the machine's, or the one that `cargo xtask test` made.
pub fn python_with_duckdb() -> Option<PathBuf> {
    python_with("duckdb")
}

/// The answers to `queries`, each an array of objects, after the statements `first`.
pub fn query_duckdb(python: &PathBuf, first: &[String], queries: &[String]) -> Vec<Value> {
    let mut child = Command::new(python)
        .args(["-c", CHILD])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a Python that was found starts");
    // One statement each, which stands in brackets.
    let bare = |query: &String| query.trim_end().trim_end_matches(';').to_owned();
    let queries: Vec<String> = queries.iter().map(bare).collect();
    let asked = json!({ "first": first, "queries": queries }).to_string();
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(asked.as_bytes()).expect("Python reads");
    drop(stdin);
    let output = child.wait_with_output().expect("Python's end");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}
