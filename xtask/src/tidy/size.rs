//! Size: a file has 400 lines at most, a function 80.

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
    for (line, name, length) in functions(source) {
        if length > FUNCTION_MAX && !excused(&format!("{}:{name}", source.path)) {
            let what = format!(
                "function {name} has {length} lines, {FUNCTION_MAX} at most; give its steps names"
            );
            found.push(Finding::new(&source.path, line, what));
        }
    }
    found
}

/// Line, name and length of every function with a body of its own lines. rustfmt puts the closing
/// brace under the first letter of the signature.
fn functions(source: &Source) -> impl Iterator<Item = (usize, &str, usize)> {
    source.numbered_code().filter_map(|(line, code)| {
        let (head, tail) = code.split_once("fn ")?;
        let is_signature = head.split_whitespace().all(|word| {
            word.starts_with("pub") || ["async", "const", "unsafe", "extern"].contains(&word)
        });
        let end = tail.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
        let name = tail.get(..end).filter(|name| is_signature && !name.is_empty())?;
        let indent = code.len() - code.trim_start().len();
        let close = format!("{}}}", " ".repeat(indent));
        let rest = source.code.get(line - 1..)?;
        let length = rest.iter().position(|code| ends(code, &close, indent))? + 1;
        Some((line, name, length))
    })
}

/// True for the last line of an item that began at `indent`: its brace, or all of it in a line.
fn ends(code: &str, close: &str, indent: usize) -> bool {
    let is_shallow = code.len() - code.trim_start().len() == indent && !code.trim().is_empty();
    let code = code.trim_end();
    code == close || is_shallow && (code.ends_with(';') || code.ends_with('}'))
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
    fn a_signature_of_many_lines_and_its_neighbours_do_not_confuse() {
        let text =
            "fn g(\n    a: u8,\n) -> u8 {\n    a\n}\n\nfn h() {}\ntrait T {\n    fn i();\n}\n";
        let source = Source::new("a.rs", text);
        let found: Vec<_> = functions(&source).collect();
        assert_eq!(found, [(1, "g", 5), (7, "h", 1), (9, "i", 1)]);
    }

    #[test]
    fn an_exception_is_honoured_and_noted() {
        let mut used = Vec::new();
        let exceptions = [("a.rs:f", "a table"), ("b.rs", "another")];
        assert!(findings(&long("fn f()", 100), &exceptions, &mut used).is_empty());
        assert_eq!(used, ["a.rs:f"]);
    }
}
