//! Markdown documents, parsed: blocks with the comments above them, tables, anchors, links.
//!
//! Comments: `<!-- run -->` above a console block runs its commands; `<!-- before: TEXT -->` above
//! a TOML block inserts the text before it; `<!-- terminal: STEP -->` marks a step of the quick
//! start; `<!-- keys: GROUP -->` above a table makes it one of the configuration's
//! reference.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use super::{files, repository};

#[derive(Debug)]
pub(crate) struct Document {
    /// Relative to the root of the repository.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

#[derive(Debug)]
pub(crate) struct Block {
    /// File and line, for messages.
    pub(crate) location: String,
    /// The language of a fence; "" for an indented block.
    pub(crate) language: String,
    /// The text of the comment above; "" for none.
    pub(crate) comment: String,
    pub(crate) text: String,
}

/// A table: rows of cells, the header first. A cell has its text and its code spans.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) rows: Vec<Vec<Cell>>,
}

#[derive(Debug, Default)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) code: Vec<String>,
}

/// All documents: the files in the root, and those of `docs`.
pub(crate) fn documents() -> Vec<Document> {
    let root = repository();
    let in_root = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        in_root.filter(|path| path.extension().is_some_and(|it| it == "md")).collect();
    paths.sort();
    paths.extend(files(&root.join("docs"), "md"));
    let read = |path: PathBuf| Document {
        text: std::fs::read_to_string(&path).unwrap(),
        path: path.strip_prefix(root).unwrap().to_owned(),
    };
    paths.into_iter().map(read).collect()
}

/// The document at `path`.
pub(crate) fn document(path: &str) -> Document {
    let found = documents().into_iter().find(|document| document.path.as_os_str() == path);
    found.unwrap_or_else(|| panic!("{path}: no such document"))
}

impl Document {
    fn events(&self) -> impl Iterator<Item = (Event<'_>, std::ops::Range<usize>)> {
        Parser::new_ext(&self.text, Options::ENABLE_TABLES).into_offset_iter()
    }

    /// `docs/x.md:12`.
    pub(crate) fn location(&self, offset: usize) -> String {
        let line = self.text[..offset].matches('\n').count() + 1;
        format!("{}:{line}", self.path.display())
    }

    /// The document's code blocks.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let (mut blocks, mut comment, mut open) = (Vec::new(), String::new(), None);
        for (event, range) in self.events() {
            match event {
                Event::Html(text) => comment.push_str(&text),
                Event::Start(Tag::HtmlBlock) | Event::End(TagEnd::HtmlBlock) => {}
                Event::Start(Tag::CodeBlock(kind)) => {
                    let language = match kind {
                        CodeBlockKind::Fenced(info) => info.to_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    let text = std::mem::take(&mut comment);
                    let text = text.trim().trim_start_matches("<!--").trim_end_matches("-->");
                    open = Some(Block {
                        location: self.location(range.start),
                        language,
                        comment: text.trim().to_owned(),
                        text: String::new(),
                    });
                }
                Event::Text(text) => match &mut open {
                    Some(block) => block.text.push_str(&text),
                    None => comment.clear(),
                },
                Event::End(TagEnd::CodeBlock) => blocks.extend(open.take()),
                _ => comment.clear(),
            }
        }
        blocks
    }

    /// Code spans with their location.
    pub(crate) fn spans(&self) -> Vec<(String, String)> {
        let span = |(event, range): (Event<'_>, std::ops::Range<usize>)| match event {
            Event::Code(text) => Some((self.location(range.start), text.to_string())),
            _ => None,
        };
        self.events().filter_map(span).collect()
    }

    /// Link targets with their location.
    pub(crate) fn links(&self) -> Vec<(String, String)> {
        let link = |(event, range): (Event<'_>, std::ops::Range<usize>)| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                Some((self.location(range.start), dest_url.to_string()))
            }
            _ => None,
        };
        self.events().filter_map(link).collect()
    }

    /// The anchors of its headings, as code forges derive them.
    pub(crate) fn anchors(&self) -> BTreeSet<String> {
        let (mut anchors, mut heading) = (BTreeSet::new(), None);
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        for (event, _) in self.events() {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::End(TagEnd::Heading(_)) => {
                    let anchor = anchor(&heading.take().unwrap_or_default());
                    let count = seen.entry(anchor.clone()).or_default();
                    let number = if *count == 0 { String::new() } else { format!("-{count}") };
                    anchors.insert(format!("{anchor}{number}"));
                    *count += 1;
                }
                _ => {}
            }
        }
        anchors
    }

    pub(crate) fn tables(&self) -> Vec<Table> {
        let (mut tables, mut cell) = (Vec::<Table>::new(), None::<Cell>);
        for (event, _) in self.events() {
            match event {
                Event::Start(Tag::Table(_)) => tables.push(Table::default()),
                Event::Start(Tag::TableHead | Tag::TableRow) => {
                    tables.last_mut().unwrap().rows.push(Vec::new());
                }
                Event::Start(Tag::TableCell) => cell = Some(Cell::default()),
                Event::End(TagEnd::TableCell) => {
                    let row = tables.last_mut().and_then(|table| table.rows.last_mut()).unwrap();
                    row.extend(cell.take());
                }
                Event::Text(text) => {
                    if let Some(cell) = &mut cell {
                        cell.text.push_str(&text);
                    }
                }
                Event::Code(text) => {
                    if let Some(cell) = &mut cell {
                        cell.text.push_str(&text);
                        cell.code.push(text.to_string());
                    }
                }
                _ => {}
            }
        }
        tables
    }

    /// The rows, without header, of each table that has `header` in column number `column`.
    pub(crate) fn rows_under(&self, column: usize, header: &str) -> Vec<Vec<Cell>> {
        let has_header = |table: &Table| {
            let head = table.rows.first().and_then(|row| row.get(column));
            head.is_some_and(|cell| cell.text == header)
        };
        self.tables()
            .into_iter()
            .filter(has_header)
            .flat_map(|it| it.rows.into_iter().skip(1))
            .collect()
    }
}

fn anchor(heading: &str) -> String {
    let characters =
        heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    characters.map(|c| if c == ' ' { '-' } else { c }).collect::<String>().to_lowercase()
}

#[test]
fn anchors_match_those_of_code_forges() {
    let text = "# `[[feed]]`: sources of indicators\n\n## A\n\n## A\n".to_owned();
    let document = Document { path: PathBuf::from("x.md"), text };
    let anchors: Vec<String> = document.anchors().into_iter().collect();
    assert_eq!(anchors, ["a", "a-1", "feed-sources-of-indicators"]);
}
