//! Pages of a pull: a bounded number, and an error as soon as they make no progress.
//!
//! A server that ignores the parameter of the next page returns the same items for ever. It is recognised by
//! the items, since the rest of such a page (its link to the next one, a time) may differ.

use std::collections::HashMap;

use super::error::FetchError;
use super::http::Session;
use super::scan::Scan;

/// Maximum number of pages of a pull.
const PAGES_MAX: u32 = 10_000;
/// Maximum number of consecutive pages without an item. A server that filters its pages returns a few.
const EMPTY_MAX: u32 = 100;

/// Parameter by which a protocol requests the next page, and the remedy if a server ignores it.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageParameter {
    pub(super) name: &'static str,
    pub(super) remedy: &'static str,
}

/// Pages of a pull so far.
#[derive(Debug)]
pub(super) struct Pages {
    parameter: PageParameter,
    /// Requested number of items per page.
    page_size: u32,
    count: u32,
    /// Largest number of items of a page.
    largest: u64,
    empty: u32,
    /// Number of the page by the digest of its items; at most one entry per page.
    seen: HashMap<u64, u32>,
}

impl Pages {
    pub(super) fn new(parameter: PageParameter, page_size: u32) -> Self {
        Self { parameter, page_size, count: 0, largest: 0, empty: 0, seen: HashMap::new() }
    }

    /// Counts a page that is about to be requested, and reports it as progress of the pull.
    pub(super) fn begin(&mut self, session: &Session<'_>) -> Result<u32, FetchError> {
        if self.count == PAGES_MAX {
            return Err(self.too_many());
        }
        self.count += 1;
        session.progress.set_page(self.count);
        Ok(self.count)
    }

    /// Checks the page of `scan`, which has further pages if `has_more`. Fails if an earlier page had the same
    /// items, or if there were only empty pages for long.
    pub(super) fn check(&mut self, scan: &Scan, has_more: bool) -> Result<(), FetchError> {
        let items = scan.items();
        self.largest = self.largest.max(items);
        if items == 0 {
            self.empty += 1;
            return if has_more && self.empty >= EMPTY_MAX {
                Err(FetchError::EmptyPages { count: self.empty })
            } else {
                Ok(())
            };
        }
        self.empty = 0;
        match self.seen.insert(scan.digest(), self.count) {
            None => Ok(()),
            Some(earlier) => Err(FetchError::RepeatedPage {
                page: self.count,
                earlier,
                parameter: self.parameter.name,
                remedy: self.parameter.remedy,
            }),
        }
    }

    /// Starts another run of pages, which may have the items of earlier ones: of another collection, or again
    /// from an earlier position.
    pub(super) fn begin_run(&mut self) {
        self.seen.clear();
        self.empty = 0;
    }

    fn too_many(&self) -> FetchError {
        // A server with a lower limit of its own ignores a larger page_size.
        let is_full = self.largest >= u64::from(self.page_size);
        let remedy = if is_full {
            "raise page_size, or request less"
        } else {
            "the server returns fewer than page_size, so request less"
        };
        FetchError::TooManyPages { max: PAGES_MAX, largest: self.largest, remedy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMETER: PageParameter = PageParameter { name: "next", remedy: "report it" };

    fn scan(text: &str) -> Scan {
        let mut scan = Scan::new(&[], &[&["objects"]]);
        scan.add(text.as_bytes());
        scan
    }

    #[test]
    fn a_page_with_the_items_of_an_earlier_one_ends_the_run() {
        let page = |items: &str| scan(&format!("{{\"objects\":[{items}]}}"));
        for (items, error) in [
            (&["1", "1"][..], Some("page 2 has the items of page 1 again")),
            (&["1,2", "2,1"], Some("page 2 has the items of page 1 again")),
            (&["1", "2", "1"], Some("page 3 has the items of page 1 again")),
            (&["1", "2", "", "2"], Some("page 4 has the items of page 2 again")),
            (&["1", "1,2", "2", "", ""], None),
        ] {
            let mut pages = Pages::new(PARAMETER, 2);
            let mut failed = None;
            for items in items {
                pages.count += 1;
                let checked = pages.check(&page(items), true);
                failed = failed.or_else(|| checked.err());
            }
            let failed = failed.map(|error| error.to_string()).unwrap_or_default();
            assert!(failed.starts_with(error.unwrap_or_default()), "{items:?}: {failed}");
            assert_eq!(failed.is_empty(), error.is_none(), "{items:?}: {failed}");
        }
        // Another run may have the same items.
        let mut pages = Pages::new(PARAMETER, 2);
        pages.check(&page("1"), true).unwrap();
        pages.begin_run();
        pages.check(&page("1"), true).unwrap();
    }

    #[test]
    fn empty_pages_in_a_row_are_bounded() {
        let mut pages = Pages::new(PARAMETER, 2);
        for _page in 1..EMPTY_MAX {
            pages.check(&scan("{}"), true).unwrap();
        }
        pages.check(&scan("{\"objects\":[1]}"), true).unwrap();
        for _page in 1..EMPTY_MAX {
            pages.check(&scan("{\"objects\":[]}"), true).unwrap();
        }
        pages.check(&scan("{}"), false).unwrap();
        let error = pages.check(&scan("{}"), true).unwrap_err().to_string();
        assert!(error.contains("pages in a row without an item"), "{error}");
    }

    #[test]
    fn the_remedy_for_too_many_pages_is_one_that_helps() {
        for (items, remedy) in [("1,2", "raise page_size"), ("1", "so request less")] {
            let mut pages = Pages::new(PARAMETER, 2);
            pages.check(&scan(&format!("{{\"objects\":[{items}]}}")), true).unwrap();
            let error = pages.too_many().to_string();
            assert!(error.contains(remedy), "{error}");
        }
    }
}
