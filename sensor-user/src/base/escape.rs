//! Foreign text on its way to a terminal or a log.

/// `text` with everything that a terminal might obey made visible, at most `most` characters of it
/// (then `…`).
///
/// Control characters, line ends, bidirectional and zero-width controls become `\n`, `\u{202e}`
/// and so on; `"` and `\` are escaped, so the result can stand between quotes.
pub fn escaped(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len().min(most));
    let mut characters = text.chars();
    for character in characters.by_ref().take(most) {
        if character == '\'' {
            out.push(character);
        } else {
            out.extend(character.escape_debug());
        }
    }
    if characters.next().is_some() {
        out.push('…');
    }
    out
}

/// A message that may hold foreign text (a certificate's names, say) made safe to log, at most
/// 1,000 characters of it. Quotes and backslashes stay, so parts that are escaped already do too.
pub(crate) fn visible(message: &str) -> String {
    message.chars().take(1000).fold(String::with_capacity(message.len()), |mut out, character| {
        push_visible(&mut out, character);
        out
    })
}

/// Puts one character of such a message behind `out`.
pub(crate) fn push_visible(out: &mut String, character: char) {
    if matches!(character, '\'' | '"' | '\\') {
        out.push(character);
    } else {
        out.extend(character.escape_debug());
    }
}

#[cfg(test)]
mod tests {
    use super::{escaped, visible};

    #[test]
    fn what_is_escaped_already_stays_as_it_is_in_a_message() {
        let message = format!("name \"{}\"", escaped("a\u{1b}\n\"", 9));
        assert_eq!(visible(&message), message);
        assert_eq!(visible("name \u{1b}[31m"), "name \\u{1b}[31m");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_stays() {
        for (text, shown) in [
            ("plain it's", "plain it's"),
            ("a\nb\r\t\0", "a\\nb\\r\\t\\0"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("\u{202e}txt.exe", "\\u{202e}txt.exe"),
            ("\u{2066}\u{200b}\u{2028}\u{61c}", "\\u{2066}\\u{200b}\\u{2028}\\u{61c}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("say \"hi\" \\", "say \\\"hi\\\" \\\\"),
            ("größe", "größe"),
        ] {
            assert_eq!(escaped(text, 80), shown, "{text:?}");
        }
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        assert_eq!(escaped("äöü", 2), "äö…");
        assert_eq!(escaped("äöü", 3), "äöü");
        assert_eq!(escaped("", 0), "");
    }
}
