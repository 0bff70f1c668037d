//! Size: a file has 400 lines at most, a function 80.

use super::code::Function;
use super::{Finding, Source};

const FILE_MAX: usize = 400;
const FUNCTION_MAX: usize = 80;

/// Files and functions that are too long and not among `exceptions`; notes which of these were
/// `used`.
pub(super) fn findings<'e>(
    source: &Source,
    exceptions: &[(&'e str, &str)],
    used: &mut Vec<&'e str>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut excused = |name: &str| {
        let exception = exceptions.iter().find(|(known, _reason)| *known == name);
        used.extend(exception.map(|(known, _reason)| *known));
        exception.is_some()
    };
    let lines = source.lines.len();
    if lines > FILE_MAX && !excused(&source.path) {
        let what = format!("{lines} lines, {FILE_MAX} at most; split it by subject");
        found.push(Finding::new(&source.path, lines, what));
    }
    for Function { line, name, length } in source.functions() {
        if length > FUNCTION_MAX && !excused(&format!("{}:{name}", source.path)) {
            let what = format!(
                "function {name} has {length} lines, {FUNCTION_MAX} at most; give its steps names"
            );
            found.push(Finding::new(&source.path, line, what));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(signature: &str, body: usize) -> Source {
        let text = format!("{signature} {{\n{}}}\n", "    step();\n".repeat(body));
        Source::new("a.rs", &text)
    }

    #[test]
    fn a_long_file_is_found() {
        assert!(findings(&Source::new("a.rs", &"\n".repeat(400)), &[], &mut vec![]).is_empty());
        let found = findings(&Source::new("a.rs", &"\n".repeat(401)), &[], &mut vec![]);
        assert_eq!(found[0].to_string(), "a.rs:401: 401 lines, 400 at most; split it by subject");
    }

    #[test]
    fn a_long_function_is_found_whatever_its_signature() {
        for signature in ["fn f()", "pub(crate) async fn f()", "pub const unsafe fn f<T: X>(a: T)"]
        {
            assert!(findings(&long(signature, 78), &[], &mut vec![]).is_empty(), "{signature}");
            let found = findings(&long(signature, 79), &[], &mut vec![]);
            assert_eq!(
                found[0].to_string(),
                "a.rs:1: function f has 81 lines, 80 at most; give its steps names"
            );
        }
    }

    #[test]
    fn an_exception_is_honoured_and_noted() {
        let mut used = Vec::new();
        let exceptions = [("a.rs:f", "a table"), ("b.rs", "another")];
        assert!(findings(&long("fn f()", 100), &exceptions, &mut used).is_empty());
        assert_eq!(used, ["a.rs:f"]);
    }
}
