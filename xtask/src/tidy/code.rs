//! A Rust file, and the same with comments and the insides of literals blanked out, so that a
//! rule about code does not trip over text about code. Lines and columns stay.

/// One file.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    /// As it is.
    pub(crate) lines: Vec<String>,
    /// Only the code of it.
    pub(crate) code: Vec<String>,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let lines = |text: &str| text.lines().map(str::to_owned).collect();
        Self { path: path.to_owned(), lines: lines(text), code: lines(&blank(text)) }
    }

    /// Number and code of each line, from 1.
    pub(crate) fn numbered_code(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.code.iter().map(String::as_str))
    }

    /// Every function. rustfmt puts the closing brace under the first letter of the signature.
    pub(crate) fn functions(&self) -> impl Iterator<Item = Function<'_>> {
        self.numbered_code().filter_map(|(line, code)| {
            let name = function_name(code)?;
            let indent = code.len() - code.trim_start().len();
            let rest = self.code.get(line - 1..)?;
            let length = rest.iter().position(|code| ends(code, indent))? + 1;
            Some(Function { line, name, length })
        })
    }

    /// The code of a function, signature included.
    pub(crate) fn body(&self, function: &Function<'_>) -> &[String] {
        let begin = function.line - 1;
        self.code.get(begin..begin + function.length).unwrap_or(&[])
    }
}

/// Where a function is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Function<'s> {
    /// Of the signature's first line.
    pub(crate) line: usize,
    pub(crate) name: &'s str,
    /// In lines, signature and closing brace included.
    pub(crate) length: usize,
}

/// The name of the function whose signature begins in this line.
fn function_name(code: &str) -> Option<&str> {
    let (head, tail) = code.split_once("fn ")?;
    let is_signature = head.split_whitespace().all(|word| {
        word.starts_with("pub") || ["async", "const", "unsafe", "extern"].contains(&word)
    });
    let end = tail.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
    tail.get(..end).filter(|name| is_signature && !name.is_empty())
}

/// True for the last line of an item that began at `indent`: its brace, or all of it in a line.
fn ends(code: &str, indent: usize) -> bool {
    let is_shallow = code.len() - code.trim_start().len() == indent;
    is_shallow && (code.trim_end().ends_with(';') || code.trim_end().ends_with('}'))
}

/// True when `word` stands in `line` with no letter, digit or `_` on either side.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|head| head.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|tail| tail.chars().next());
        !before.is_some_and(is_name) && !after.is_some_and(is_name)
    })
}

/// What the text that is being read is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Code,
    LineComment,
    /// Depth: block comments nest.
    BlockComment(usize),
    Text,
    /// Number of `#`.
    RawText(usize),
}

fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = Inside::Code;
    let mut rest = text;
    let mut previous = ' ';
    while let Some(next) = rest.chars().next() {
        let (taken, then) = step(inside, rest, previous);
        let taken = taken.max(next.len_utf8());
        let (piece, tail) = rest.split_at_checked(taken).unwrap_or((rest, ""));
        let is_code = inside == Inside::Code && then == Inside::Code && !is_char(piece);
        out.extend(piece.chars().map(|c| if is_code || c == '\n' { c } else { ' ' }));
        previous = piece.chars().next_back().unwrap_or(' ');
        inside = then;
        rest = tail;
    }
    out
}

fn is_char(piece: &str) -> bool {
    piece.len() > 2 && piece.starts_with('\'')
}

/// How many bytes belong together at the start of `rest`, and what comes after them.
fn step(inside: Inside, rest: &str, previous: char) -> (usize, Inside) {
    let starts = |prefix: &str| rest.starts_with(prefix);
    match inside {
        Inside::Code if starts("//") => (2, Inside::LineComment),
        Inside::Code if starts("/*") => (2, Inside::BlockComment(1)),
        Inside::Code if starts("\"") => (1, Inside::Text),
        Inside::Code
            if starts("r") && !(previous.is_alphanumeric() || previous == '_')
                || starts("br")
                || starts("cr") =>
        {
            raw_start(rest)
        }
        Inside::Code if starts("'") => (char_literal(rest), Inside::Code),
        Inside::Code => (1, Inside::Code),
        Inside::LineComment if starts("\n") => (1, Inside::Code),
        Inside::BlockComment(depth) if starts("/*") => (2, Inside::BlockComment(depth + 1)),
        Inside::BlockComment(1) if starts("*/") => (2, Inside::Code),
        Inside::BlockComment(depth) if starts("*/") => (2, Inside::BlockComment(depth - 1)),
        Inside::Text if starts("\\") => (2, Inside::Text),
        Inside::Text if starts("\"") => (1, Inside::Code),
        Inside::RawText(hashes) if closes(rest, hashes) => (1 + hashes, Inside::Code),
        same => (1, same),
    }
}

/// `r"`, `r#"`, `br##"` and so on; anything else is code.
fn raw_start(rest: &str) -> (usize, Inside) {
    let prefix = rest.find('r').map_or(1, |at| at + 1);
    let hashes = rest.bytes().skip(prefix).take_while(|byte| *byte == b'#').count();
    if rest.as_bytes().get(prefix + hashes) == Some(&b'"') {
        (prefix + hashes + 1, Inside::RawText(hashes))
    } else {
        (1, Inside::Code)
    }
}

fn closes(rest: &str, hashes: usize) -> bool {
    rest.starts_with('"')
        && rest.bytes().skip(1).take(hashes).filter(|b| *b == b'#').count() == hashes
}

/// Length of a character literal; 1 for a lifetime.
fn char_literal(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, _))) => {
            let tail = rest.get(at + 1..).unwrap_or_default();
            tail.find('\'').map_or(1, |end| at + 1 + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_code_stays() {
        for (text, want) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("x \" y", z)"#, "f(        , z)"),
            (r##"f(r#"a " b"#, z)"##, "f(          , z)"),
            ("f(b'\"', '\\'', 'x')", "f(b   ,     ,    )"),
            ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
            ("'\\u{1f}' + 'a", "         + 'a"),
            ("number\"a\"", "number   "),
        ] {
            assert_eq!(blank(text), want, "{text}");
        }
    }

    #[test]
    fn a_word_is_not_part_of_another() {
        for (line, want) in [
            ("unsafe { x }", true),
            ("#![forbid(unsafe_code)]", false),
            ("not_unsafe()", false),
            ("(unsafe)", true),
            ("", false),
        ] {
            assert_eq!(has_word(line, "unsafe"), want, "{line}");
        }
    }

    #[test]
    fn functions_are_separated() {
        let text =
            "fn g(\n    a: u8,\n) -> u8 {\n    a\n}\n\nfn h() {}\ntrait T {\n    fn i();\n}\n";
        let source = Source::new("a.rs", text);
        let found: Vec<_> = source.functions().map(|f| (f.line, f.name, f.length)).collect();
        assert_eq!(found, [(1, "g", 5), (7, "h", 1), (9, "i", 1)]);
        let first = source.functions().next().unwrap();
        assert_eq!(source.body(&first).last().unwrap(), "}");
    }
}
