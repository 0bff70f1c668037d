//! Counts the results that libtest prints, and the skipped tests.

/// Numbers of tests that ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: usize,
    pub(super) failed: usize,
}

impl Tally {
    /// Tally of one check that passed.
    pub(super) const PASSED: Self = Self { passed: 1, failed: 0 };

    pub(super) const fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// Tally of one line of libtest's output. Zero for all lines except
    /// `test result: ok. 12 passed; 0 failed; …`.
    pub(super) fn of_line(line: &str) -> Self {
        let Some((_, counts)) = line.split_once("test result: ") else { return Self::default() };
        let count = |label: &str| {
            let mut words = counts.split([' ', ';', '.']).filter(|word| !word.is_empty());
            let mut previous = "";
            words.find_map(|word| {
                let count = std::mem::replace(&mut previous, word);
                if word == label { count.parse().ok() } else { None }
            })
        };
        Self { passed: count("passed").unwrap_or(0), failed: count("failed").unwrap_or(0) }
    }
}

/// Name of the test in a line `test <name> ... FAILED`.
pub(super) fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

/// Tests and stages that did not run, with their reasons.
#[derive(Debug, Clone, Default)]
pub(super) struct Skips(Vec<(String, String)>);

/// Names of whole suites; no single test has one of these names.
const SUITES: [&str; 4] = ["kernel", "object", "packages", "server"];

impl Skips {
    pub(super) fn push(&mut self, name: &str, reason: &str) {
        self.0.push((name.to_owned(), reason.to_owned()));
    }

    /// Adds the lines `SKIPPED <test>: <reason>` of the suites' log and returns their number. These
    /// tests returned early, so libtest counted them as passed.
    pub(super) fn extend_from_log(&mut self, log: &str) -> usize {
        let lines = log.lines().filter(|line| !line.trim().is_empty());
        let before = self.0.len();
        for line in lines {
            let line = line.strip_prefix("SKIPPED ").unwrap_or(line);
            let (name, reason) = line.split_once(": ").unwrap_or((line, "no reason given"));
            self.push(name, &reason.escape_debug().to_string());
        }
        self.0.len() - before
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, reason)| (name.as_str(), reason.as_str()))
    }

    /// Names of the whole suites among them.
    pub(super) fn suites(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(name, _)| name).filter(|name| SUITES.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_from_the_line_of_libtest() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out";
        for (line, passed, failed) in [
            (line, 12, 3),
            ("test result: ok. 7 passed; 0 failed; 0 ignored", 7, 0),
            ("test two_passed ... ok", 0, 0),
            ("test result: odd", 0, 0),
            ("", 0, 0),
        ] {
            assert_eq!(Tally::of_line(line), Tally { passed, failed }, "{line}");
        }
    }

    #[test]
    fn the_name_of_a_failed_test_is_found() {
        assert_eq!(failed_test("test a::b ... FAILED"), Some("a::b"));
        assert_eq!(failed_test("test a::b ... ok"), None);
        assert_eq!(failed_test("test result: FAILED. 1 passed"), None);
    }

    #[test]
    fn skips_come_from_stages_and_from_the_log() {
        let mut skips = Skips::default();
        skips.push("kernel", "not root");
        let log = "SKIPPED accept_by_fexit: refused (EPERM)\n\nserver: python3 is missing\nodd\n";
        assert_eq!(skips.extend_from_log(log), 3);
        assert_eq!(skips.count(), 4);
        assert_eq!(skips.suites().collect::<Vec<_>>(), ["kernel", "server"]);
        assert!(skips.iter().any(|skip| skip == ("odd", "no reason given")));
        assert!(skips.iter().any(|skip| skip == ("accept_by_fexit", "refused (EPERM)")));
    }
}
