//! Escaping of untrusted text for a terminal or a log.

/// Returns at most `max` characters of `text`, escaped; `…` marks a truncation.
///
/// Control characters, line ends, bidirectional and zero-width controls become `\n`, `\u{202e}`
/// and so on. `"` and `\` are escaped, so that the result can be quoted.
///
/// ```
/// use sensor_user::base::escape::escaped;
///
/// assert_eq!(escaped("a\u{1b}[31m\nb", 80), "a\\u{1b}[31m\\nb");
/// assert_eq!(escaped("long text", 4), "long…");
/// ```
pub fn escaped(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    let mut characters = text.chars();
    for character in characters.by_ref().take(max) {
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

/// Escapes a message that may contain untrusted text, such as names in a certificate, and truncates it
/// to 1,000 characters. Quotes and backslashes stay, so that escaped parts are not escaped twice.
pub(crate) fn visible(message: &str) -> String {
    visible_part(message, 1000)
}

/// Returns at most `max` characters of a message, escaped as by [`visible`]; `…` marks a truncation.
pub(crate) fn visible_part(message: &str, max: usize) -> String {
    let mut out = String::with_capacity(message.len().min(max));
    let mut characters = message.chars();
    characters.by_ref().take(max).for_each(|character| push_visible(&mut out, character));
    if characters.next().is_some() {
        out.push('…');
    }
    out
}

/// Appends one character to `out`, escaped as by [`visible`].
pub(crate) fn push_visible(out: &mut String, character: char) {
    if matches!(character, '\'' | '"' | '\\') {
        out.push(character);
    } else {
        out.extend(character.escape_debug());
    }
}

#[cfg(test)]
mod tests {
    use super::{escaped, visible, visible_part};

    #[test]
    fn escaped_parts_of_a_message_stay_unchanged() {
        let message = format!("name \"{}\"", escaped("a\u{1b}\n\"", 9));
        assert_eq!(visible(&message), message);
        assert_eq!(visible("name \u{1b}[31m"), "name \\u{1b}[31m");
        assert_eq!(visible_part("name \"\u{1b}x", 7), "name \"\\u{1b}…");
    }

    #[test]
    fn control_characters_are_escaped() {
        for (text, shown) in [
            ("plain it's", "plain it's"),
            ("a\nb\r\t\0", "a\\nb\\r\\t\\0"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("\u{202e}txt.exe", "\\u{202e}txt.exe"),
            ("\u{2066}\u{200b}\u{2028}\u{61c}", "\\u{2066}\\u{200b}\\u{2028}\\u{61c}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a \"b\" \\", "a \\\"b\\\" \\\\"),
            ("größe", "größe"),
        ] {
            assert_eq!(escaped(text, 80), shown, "{text:?}");
        }
    }

    #[test]
    fn long_text_is_truncated_at_a_character() {
        assert_eq!(escaped("äöü", 2), "äö…");
        assert_eq!(escaped("äöü", 3), "äöü");
        assert_eq!(escaped("", 0), "");
    }
}
