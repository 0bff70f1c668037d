//! `MetricsText`: writer of both Prometheus formats, `OpenMetrics` 1.0 and the older text format 0.0.4.

use std::fmt::{Display, Write as _};

use crate::base::escape::visible;

/// Limit of a label value, in characters.
const VALUE_MAX: usize = 256;

/// Format of a metrics page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricsFormat {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// Prometheus text format 0.0.4.
    Plain,
}

impl MetricsFormat {
    /// Selects the format for the `Accept` header `accept`: plain, unless it accepts `OpenMetrics`.
    pub(super) fn from_accept(accept: &str) -> Self {
        let is_refused =
            |range: &str| range.split(';').any(|part| matches!(part.trim(), "q=0" | "q=0.0"));
        let is_accepted = accept.split(',').any(|range| {
            let range = range.trim();
            range.split(';').next().is_some_and(|it| it.trim() == "application/openmetrics-text")
                && !is_refused(range)
        });
        if is_accepted { Self::OpenMetrics } else { Self::Plain }
    }

    /// Returns the value for `Content-Type`.
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Metric type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FamilyKind {
    Counter,
    Gauge,
    Histogram,
}

/// A metrics page while it is written.
#[derive(Debug)]
pub(super) struct MetricsText {
    out: String,
    format: MetricsFormat,
}

/// A metric family while its samples are written.
#[derive(Debug)]
pub(super) struct FamilyText<'t> {
    text: &'t mut MetricsText,
    /// Name of the samples, which for a counter ends in `_total`.
    name: String,
}

/// Observations of a histogram, for one set of labels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buckets<'b> {
    /// Upper bounds in seconds, without `+Inf`.
    pub(super) bounds: &'b [f64],
    /// Observations of each bucket (not cumulative), that of `+Inf` included.
    pub(super) counts: &'b [u64],
    pub(super) sum: f64,
}

impl MetricsText {
    pub(super) const fn new(format: MetricsFormat) -> Self {
        Self { out: String::new(), format }
    }

    /// Begins the family `name`, given without the suffix `_total`.
    pub(super) fn family(&mut self, name: &str, kind: FamilyKind, help: &str) -> FamilyText<'_> {
        let (sample, kind) = match kind {
            FamilyKind::Counter => (format!("{name}_total"), "counter"),
            FamilyKind::Gauge => (name.to_owned(), "gauge"),
            FamilyKind::Histogram => (name.to_owned(), "histogram"),
        };
        let (family, help) = match self.format {
            MetricsFormat::OpenMetrics => (name, quoted(help)),
            MetricsFormat::Plain => {
                (sample.as_str(), help.replace('\\', "\\\\").replace('\n', "\\n"))
            }
        };
        let _infallible = writeln!(self.out, "# HELP {family} {help}\n# TYPE {family} {kind}");
        FamilyText { text: self, name: sample }
    }

    /// Writes a family with one sample and no labels.
    pub(super) fn single(&mut self, name: &str, kind: FamilyKind, help: &str, value: impl Display) {
        self.family(name, kind, help).sample(&[], value);
    }

    /// Ends the page and returns it.
    pub(super) fn finish(mut self) -> String {
        if self.format == MetricsFormat::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

impl FamilyText<'_> {
    /// Writes a sample. Label values may be hostile: they are escaped and bounded.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, value);
    }

    /// Writes the samples of a histogram for the label `label`.
    pub(super) fn histogram(&mut self, label: (&str, &str), buckets: Buckets<'_>) {
        let mut count: u64 = 0;
        let bounds = buckets.bounds.iter().map(|bound| format!("{bound:?}"));
        for (bound, bucket) in bounds.chain(["+Inf".to_owned()]).zip(buckets.counts) {
            count = count.saturating_add(*bucket);
            self.line("_bucket", &[label, ("le", &bound)], count);
        }
        self.line("_sum", &[label], buckets.sum);
        self.line("_count", &[label], count);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let out = &mut self.text.out;
        out.push_str(&self.name);
        out.push_str(suffix);
        for (index, (name, text)) in labels.iter().enumerate() {
            let separator = if index == 0 { '{' } else { ',' };
            let text: String = visible(text).chars().take(VALUE_MAX).collect();
            let text = quoted(&text);
            let _infallible = write!(out, "{separator}{name}=\"{text}\"");
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

    fn page(format: MetricsFormat) -> String {
        let mut text = MetricsText::new(format);
        let mut family = text.family("a_b", FamilyKind::Counter, "With \"quotes\".\nTwo lines.");
        family.sample(&[("feed", "x\"} 1\n# EOF\n\u{1b}[31m\\"), ("kind", "é")], 7_u64);
        text.single("c", FamilyKind::Gauge, "A gauge.", 1.5);
        text.finish()
    }

    #[test]
    fn both_formats_are_valid_and_no_label_ends_its_line() {
        let plain = page(MetricsFormat::Plain);
        let lines: Vec<&str> = plain.lines().collect();
        assert_eq!(lines.len(), 6, "{plain}");
        assert_eq!(lines[0], "# HELP a_b_total With \"quotes\".\\nTwo lines.");
        assert_eq!(lines[1], "# TYPE a_b_total counter");
        assert!(lines[2].starts_with("a_b_total{feed=\"x\\\"} 1"), "{plain}");
        assert!(!plain.contains('\u{1b}') && !plain.contains("\n# EOF"), "{plain}");
        assert_eq!(lines[5], "c 1.5");
        let open = page(MetricsFormat::OpenMetrics);
        assert!(open.starts_with(
            "# HELP a_b With \\\"quotes\\\".\\nTwo lines.\n# TYPE a_b counter\na_b_total{"
        ));
        assert!(open.ends_with("\nc 1.5\n# EOF\n"), "{open}");
    }

    #[test]
    fn the_format_follows_the_accept_header() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                          version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(MetricsFormat::from_accept(prometheus), MetricsFormat::OpenMetrics);
        for plain in ["", "*/*", "text/plain", "application/openmetrics-text;q=0, */*"] {
            assert_eq!(MetricsFormat::from_accept(plain), MetricsFormat::Plain, "{plain}");
        }
    }
}
