//! Restricted words: `aya`, `reqwest` and `unsafe` only in their modules; `todo!` and the like nowhere.

use super::code::has_word;
use super::{Finding, Source};

/// A word that is allowed only in some files.
struct Rule {
    word: &'static str,
    /// Path prefixes, and the text that may follow the word there (`""` for any).
    allowed: &'static [(&'static str, &'static str)],
    what: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        word: "aya",
        allowed: &[("sensor-user/src/pipeline/capture/", "")],
        what: "aya outside pipeline/capture; only capture talks to the BPF programs",
    },
    Rule {
        word: "reqwest",
        allowed: &[
            ("sensor-user/src/http/", ""),
            ("sensor-user/src/intel/fetch/", ""),
            ("sensor-user/src/intel/", "::Url"),
            // Owns the client that fetch is called with.
            ("sensor-user/src/intel/feeds/", "::Client"),
            ("sensor-user/src/intel/feeds/", "::Error"),
            ("sensor-user/src/deliver/", ""),
            ("sensor-user/src/inventory/imds.rs", ""),
            ("sensor-user/src/inventory/error.rs", ""),
            ("sensor-user/src/config/", "::Url"),
            ("sensor-user/src/cli/describe.rs", "::Url"),
        ],
        what: "reqwest outside deliver, intel/fetch, http and inventory/imds; only these use the network",
    },
    Rule {
        word: "unsafe",
        allowed: &[("sensor-ebpf/src/", ""), ("tests/src/", "")],
        what: "unsafe outside sensor-ebpf; find a safe wrapper",
    },
];

const NOWHERE: [(&str, &str); 4] = [
    ("todo!", "todo! left behind; do it or leave the feature out"),
    ("unimplemented!", "unimplemented! left behind; do it or leave the feature out"),
    ("dbg!", "dbg! left behind; use tracing or remove it"),
    ("#[ignore", "an ignored test; make it run, or skip with a reason at run time"),
];

/// Words in files where they are not allowed.
pub(super) fn findings(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    for (line, code) in source.numbered_code() {
        let rules = RULES.iter().filter(|rule| rule.is_broken(&source.path, code));
        found.extend(rules.map(|rule| Finding::new(&source.path, line, rule.what)));
        let leftovers = NOWHERE.iter().filter(|(text, _)| code.contains(text));
        found.extend(leftovers.map(|(_, what)| Finding::new(&source.path, line, *what)));
    }
    found
}

impl Rule {
    fn is_broken(&self, path: &str, code: &str) -> bool {
        let mut allowed = self.allowed.iter().filter(|(prefix, _)| path.starts_with(prefix));
        has_word(code, self.word)
            && !allowed.any(|(_, follow)| code.contains(&format!("{}{follow}", self.word)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        findings(&Source::new(path, text)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_restricted_word_elsewhere_is_found() {
        for (path, text, what) in [
            (
                "sensor-user/src/pipeline/matcher/mod.rs",
                "use aya::Ebpf;",
                "aya outside pipeline/capture",
            ),
            (
                "sensor-user/src/pipeline/decode/mod.rs",
                "use {aya, x};",
                "aya outside pipeline/capture",
            ),
            (
                "sensor-user/src/pipeline/dedup/mod.rs",
                "reqwest::get(url)",
                "reqwest outside deliver",
            ),
            ("sensor-user/src/config/mod.rs", "reqwest::Client::new()", "reqwest outside deliver"),
            ("sensor-user/src/intel/feeds/mod.rs", "reqwest::get(url)", "reqwest outside deliver"),
            ("sensor-user/src/base/counters.rs", "unsafe { x() }", "unsafe outside sensor-ebpf"),
            ("xtask/src/main.rs", "todo!()", "todo! left behind"),
            ("xtask/src/main.rs", "unimplemented!()", "unimplemented! left behind"),
            ("xtask/src/main.rs", "dbg!(x)", "dbg! left behind"),
            ("tests/tests/cli.rs", "#[ignore = \"slow\"]", "an ignored test"),
        ] {
            let found = found(path, &format!("\n{text}\n"));
            assert_eq!(found.len(), 1, "{path} {text}: {found:?}");
            assert!(found[0].starts_with(&format!("{path}:2: {what}")), "{found:?}");
        }
    }

    #[test]
    fn a_restricted_word_in_its_module_or_in_text_is_not() {
        for (path, text) in [
            ("sensor-user/src/pipeline/capture/loader.rs", "use aya::Ebpf;"),
            ("sensor-ebpf/src/emit.rs", "use aya_ebpf::maps::RingBuf; unsafe { x() }"),
            ("sensor-user/src/intel/fetch/http.rs", "reqwest::Client::new()"),
            ("sensor-user/src/intel/config/mod.rs", "Http(reqwest::Url),"),
            ("sensor-user/src/intel/feeds/mod.rs", "use reqwest::Client;"),
            ("sensor-user/src/base/counters.rs", "// unsafe, aya, todo!()\nlet x = \"dbg!\";"),
            ("sensor-user/src/lib.rs", "#![forbid(unsafe_code)]"),
        ] {
            assert_eq!(found(path, text), [""; 0], "{path}");
        }
    }
}
