//! Retired words: metaphors and verbs of speech whose field term is another.
//!
//! A word is compared without case, in code, comments and documents; parts of a `snake_case` name
//! count as words.

use std::path::Path;

use super::Finding;

/// Retired words of one meaning, and what to write instead.
const RETIRED: &[(&[&str], &str)] = &[
    (&["told", "tell", "tells", "telling", "teller"], "report, emit, record or return"),
    (&["say", "says", "said", "saying"], "log, report, print or state"),
    (&["ask", "asks", "asked", "asking"], "request, query or fetch"),
    (&["look", "looks", "looked", "looking"], "scan, poll, check or read"),
    (&["turn", "turns"], "latency, iteration or convert"),
    (&["place", "places", "placed"], "position, offset, location or directory"),
    (&["holder", "holders"], "socket owner"),
    (&["notice", "notices", "noticed"], "event, warn or record"),
    (&["settle", "settles", "settled"], "acknowledge or resolve"),
    (&["keeper", "keepers"], "supervisor"),
    (&["translator", "translators"], "NAT mapping"),
    (&["vitals"], "health"),
    (&["hindrance", "hindrances"], "reason"),
    (&["surroundings"], "context"),
    (&["flaw", "flaws"], "corruption or error"),
    (&["unasked"], "not queried"),
    (&["ours"], "own or local"),
    (&["speaker"], "identity"),
    (&["outlet", "intake"], "output or ingest"),
];

/// Phrases in which a retired word has its usual meaning.
const PHRASES: &[&str] = &[
    "look up",
    "looks up",
    "looked up",
    "looking up",
    "look-up",
    "look-ups",
    "in place",
    "takes place",
    "take place",
    "took place",
    "in turn",
    "copyright holder",
    "rename = \"place\"",
    "look back",
    "look-back",
];

/// Files that quote other texts, or the words themselves.
const EXEMPT: &[&str] = &[
    "CHANGELOG.md",
    "docs/rule.md",
    "sensor-user/src/config/retired.rs",
    "sensor-user/src/config/tests.rs",
    "xtask/src/tidy/words.rs",
];

/// Retired words in a file of the project's own text.
pub(super) fn findings(path: &str, bytes: &[u8]) -> Vec<Finding> {
    let extension = Path::new(path).extension().and_then(|it| it.to_str()).unwrap_or("");
    if EXEMPT.contains(&path) || !["rs", "md", "toml", "sh", "service"].contains(&extension) {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(bytes);
    let mut found = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let content = PHRASES.iter().fold(content.to_lowercase(), |it, x| it.replace(x, ""));
        let words = content.split(|c: char| !c.is_alphabetic());
        for word in words.filter(|word| !word.is_empty()) {
            if let Some((_, instead)) = RETIRED.iter().find(|(words, _)| words.contains(&word)) {
                let what = format!("the word {word:?} is retired; write {instead}");
                found.push(Finding::new(path, line, what));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retired_word_is_found_in_code_comments_and_documents() {
        for (path, line, found) in [
            ("a.rs", "/// Tells the sink.", true),
            ("a.rs", "fn last_told() {}", true),
            ("docs/a.md", "The agent says so.", true),
            ("findings/a.sh", "# a place", true),
            ("a.rs", "/// Looks up an address in place.", false),
            ("a.rs", "/// Placeholder, tellurium, Basket.", false),
            ("fixture.json", "{\"says\": 1}", false),
            ("CHANGELOG.md", "`told` is now `reported`", false),
        ] {
            assert_eq!(findings(path, line.as_bytes()).len(), usize::from(found), "{line}");
        }
    }
}
