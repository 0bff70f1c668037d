//! Tables of ARCHITECTURE.md that repeat a list of the code.

use super::Finding;

pub(super) const ARCHITECTURE: &str = "ARCHITECTURE.md";

/// The first column of the table `| header |` in ARCHITECTURE.md must be `wanted`.
pub(super) fn check_table(text: &str, header: &str, wanted: &[String]) -> Option<Finding> {
    let start = format!("| {header} |");
    let Some(at) = text.lines().position(|line| line.starts_with(&start)) else {
        let what = format!("no table {start} …; list the {header}s in it");
        return Some(Finding::new(ARCHITECTURE, 1, what));
    };
    let rows = text.lines().skip(at + 2).take_while(|line| line.starts_with('|'));
    let shown: Vec<String> =
        rows.filter_map(|row| Some(row.split('|').nth(1)?.replace(['`', ' '], ""))).collect();
    (shown != wanted).then(|| {
        let (shown, wanted) = (shown.join(", "), wanted.join(", "));
        let what =
            format!("the table's {header}s are {shown}, those of xtask {wanted}; make them agree");
        Finding::new(ARCHITECTURE, at + 1, what)
    })
}
