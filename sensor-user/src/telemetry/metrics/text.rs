//! `Text`: the two formats of Prometheus, `OpenMetrics` 1.0 and its older plain text.

use std::fmt::{Display, Write as _};

use crate::base::escape::visible;

/// Characters of a label's value at most.
const VALUE_MAX: usize = 256;

/// How a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// Prometheus text 0.0.4.
    Plain,
}

impl Format {
    /// The one that a caller wants, by its `Accept`: plain unless it names the other.
    pub fn wanted(accept: &str) -> Self {
        let refused =
            |range: &str| range.split(';').any(|part| matches!(part.trim(), "q=0" | "q=0.0"));
        let named = accept.split(',').any(|range| {
            let range = range.trim();
            range.split(';').next().is_some_and(|it| it.trim() == "application/openmetrics-text")
                && !refused(range)
        });
        if named { Self::OpenMetrics } else { Self::Plain }
    }

    /// Its media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows.
    Counter,
    Gauge,
    Histogram,
}

/// A page in the making.
#[derive(Debug)]
pub(super) struct Text {
    out: String,
    format: Format,
}

/// One family while its samples are written.
#[derive(Debug)]
pub(super) struct Family<'t> {
    text: &'t mut Text,
    /// Of its samples.
    name: String,
}

impl Text {
    pub(super) const fn new(format: Format) -> Self {
        Self { out: String::new(), format }
    }

    /// Begins the family `name`, without `_total`.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) -> Family<'_> {
        let (sample, word) = match kind {
            Kind::Counter => (format!("{name}_total"), "counter"),
            Kind::Gauge => (name.to_owned(), "gauge"),
            Kind::Histogram => (name.to_owned(), "histogram"),
        };
        let (family, help) = match self.format {
            Format::OpenMetrics => (name, quoted(help)),
            Format::Plain => (sample.as_str(), help.replace('\\', "\\\\").replace('\n', "\\n")),
        };
        let _infallible = writeln!(self.out, "# HELP {family} {help}\n# TYPE {family} {word}");
        Family { text: self, name: sample }
    }

    /// A family of one sample without labels.
    pub(super) fn one(&mut self, name: &str, kind: Kind, (help, value): (&str, impl Display)) {
        self.family(name, kind, help).sample(&[], value);
    }

    /// All of it.
    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

impl Family<'_> {
    /// Writes a sample; the values of labels may be hostile.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.part("", labels, value);
    }

    /// Writes the samples of a histogram: how many values were in each class, whose upper bounds are
    /// `bounds` and none, and their sum.
    pub(super) fn histogram(
        &mut self,
        (label, of): (&str, &str),
        (bounds, classes): (&[f64], &[u64]),
        sum: f64,
    ) {
        let mut count: u64 = 0;
        let bounds = bounds.iter().map(|bound| format!("{bound:?}"));
        for (bound, class) in bounds.chain(["+Inf".to_owned()]).zip(classes) {
            count = count.saturating_add(*class);
            self.part("_bucket", &[(label, of), ("le", &bound)], count);
        }
        self.part("_sum", &[(label, of)], sum);
        self.part("_count", &[(label, of)], count);
    }

    fn part(&mut self, end: &str, labels: &[(&str, &str)], value: impl Display) {
        let out = &mut self.text.out;
        out.push_str(&self.name);
        out.push_str(end);
        for (index, (name, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let text: String = visible(text).chars().take(VALUE_MAX).collect();
            let text = quoted(&text);
            let _infallible = write!(out, "{before}{name}=\"{text}\"");
        }
        if !labels.is_empty() {
            out.push('}');
        }
        let _infallible = writeln!(out, " {value}");
    }
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(format: Format) -> String {
        let mut text = Text::new(format);
        let mut family = text.family("a_b", Kind::Counter, "Says \"so\".\nTwice.");
        family.sample(&[("feed", "x\"} 1\n# EOF\n\u{1b}[31m\\"), ("kind", "é")], 7_u64);
        text.one("c", Kind::Gauge, ("A gauge.", 1.5));
        text.finish()
    }

    #[test]
    fn both_formats_are_written_and_no_label_ends_its_line() {
        let plain = page(Format::Plain);
        let lines: Vec<&str> = plain.lines().collect();
        assert_eq!(lines.len(), 6, "{plain}");
        assert_eq!(lines[0], "# HELP a_b_total Says \"so\".\\nTwice.");
        assert_eq!(lines[1], "# TYPE a_b_total counter");
        assert!(lines[2].starts_with("a_b_total{feed=\"x\\\"} 1"), "{plain}");
        assert!(!plain.contains('\u{1b}') && !plain.contains("\n# EOF"), "{plain}");
        assert_eq!(lines[5], "c 1.5");
        let open = page(Format::OpenMetrics);
        assert!(
            open.starts_with(
                "# HELP a_b Says \\\"so\\\".\\nTwice.\n# TYPE a_b counter\na_b_total{"
            )
        );
        assert!(open.ends_with("\nc 1.5\n# EOF\n"), "{open}");
    }

    #[test]
    fn the_format_is_what_is_asked_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                          version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::wanted(prometheus), Format::OpenMetrics);
        for plain in ["", "*/*", "text/plain", "application/openmetrics-text;q=0, */*"] {
            assert_eq!(Format::wanted(plain), Format::Plain, "{plain}");
        }
    }
}
