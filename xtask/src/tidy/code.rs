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
}
