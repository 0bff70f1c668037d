//! Follows a JSON document while it is written to disk, for what a protocol needs of a page (more pages, the
//! number of items). It needs a few bytes of memory, however large and hostile the page is.
//!
//! It does not validate: the parser of the document does.

#[cfg(test)]
mod tests;

use std::hash::Hasher as _;

use memchr::memchr2;
use twox_hash::XxHash64;

/// Number of outer levels whose keys are tracked.
const LEVELS_MAX: usize = 3;
/// Maximum length of a key or value, bytes.
const TOKEN_MAX: usize = 4096;

/// The wanted members and arrays, and what was found of them.
#[derive(Debug, Default)]
pub(super) struct Scan {
    wanted: &'static [&'static str],
    counted: &'static [&'static [&'static str]],
    values: Vec<Option<Vec<u8>>>,
    present: Vec<bool>,
    counts: Vec<u64>,
    levels: Vec<Level>,
    /// Number of open levels below those.
    deeper: u64,
    token: Vec<u8>,
    inside: Inside,
    has_begun: bool,
    /// The counted item that is being read, and the number of levels open around it.
    item: Option<(XxHash64, usize)>,
    digest: u64,
}

#[derive(Debug)]
struct Level {
    is_object: bool,
    key: Vec<u8>,
    expects_key: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Inside {
    #[default]
    Nothing,
    /// A number or a word.
    Bare,
    Text,
    /// Behind a backslash.
    Escape,
}

impl Scan {
    /// A scan for the scalar values of the members `wanted` of the document, and the number of items of the
    /// arrays at the paths `counted` (at most two keys). An object in the position of such an array counts with
    /// its members: PHP writes an array with gaps as an object with numbers as keys.
    pub(super) fn new(
        wanted: &'static [&'static str],
        counted: &'static [&'static [&'static str]],
    ) -> Self {
        let (values, present) = (vec![None; wanted.len()], vec![false; wanted.len()]);
        let counts = vec![0; counted.len()];
        Self { wanted, counted, values, present, counts, ..Self::default() }
    }

    /// Adds the next bytes.
    pub(super) fn add(&mut self, mut bytes: &[u8]) {
        while let Some((byte, rest)) = bytes.split_first() {
            bytes = match self.inside {
                Inside::Text => self.text(bytes),
                Inside::Escape => {
                    self.keep(&[*byte]);
                    self.inside = Inside::Text;
                    rest
                }
                Inside::Nothing | Inside::Bare => {
                    self.plain(*byte);
                    rest
                }
            };
        }
    }

    /// True if the document is complete.
    pub(super) const fn is_whole(&self) -> bool {
        self.has_begun
            && self.levels.is_empty()
            && self.deeper == 0
            && matches!(self.inside, Inside::Nothing | Inside::Bare)
    }

    /// Value of the member `name`, if it is text or a number.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        let raw = self.raw(name)?;
        match serde_json::from_slice(raw) {
            Ok(text) => text,
            Err(_not_text) => {
                let raw = std::str::from_utf8(raw).ok()?;
                raw.starts_with(|c: char| c == '-' || c.is_ascii_digit()).then(|| raw.to_owned())
            }
        }
    }

    /// True if the document has the member `name`, of any type.
    pub(super) fn has(&self, name: &str) -> bool {
        self.wanted.iter().zip(&self.present).any(|(it, is_present)| *it == name && *is_present)
    }

    /// True if the member `name` is `true`.
    pub(super) fn is_true(&self, name: &str) -> bool {
        self.raw(name) == Some(b"true")
    }

    /// Number of items of the array at `counted[index]`.
    pub(super) fn count(&self, index: usize) -> u64 {
        self.counts.get(index).copied().unwrap_or(0)
    }

    /// Number of all counted items.
    pub(super) fn items(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Digest of all counted items, whatever their order and the blanks between them.
    pub(super) const fn digest(&self) -> u64 {
        self.digest
    }

    fn raw(&self, name: &str) -> Option<&[u8]> {
        let at = self.wanted.iter().position(|wanted| *wanted == name)?;
        self.values.get(at)?.as_deref()
    }

    /// Consumes a string, or the available part of it; returns the rest.
    fn text<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let Some(at) = memchr2(b'"', b'\\', bytes) else {
            self.keep(bytes);
            return &[];
        };
        let (head, rest) = bytes.split_at(at);
        self.keep(head);
        let Some((byte, rest)) = rest.split_first() else { return &[] };
        self.keep(&[*byte]);
        if *byte == b'\\' {
            self.inside = Inside::Escape;
        } else {
            self.inside = Inside::Nothing;
            self.end_value(true);
        }
        rest
    }

    fn plain(&mut self, byte: u8) {
        let is_bare = self.inside == Inside::Bare;
        if is_bare && matches!(byte, b',' | b':' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n') {
            self.inside = Inside::Nothing;
            self.end_value(false);
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            // A byte order mark, which is no value.
            0xef | 0xbb | 0xbf if !self.has_begun => {}
            b'{' | b'[' => {
                self.begin_value();
                self.hash(byte);
                self.open(byte == b'{');
            }
            b'}' | b']' => {
                self.end_item();
                self.hash(byte);
                self.close();
            }
            b',' => {
                self.end_item();
                self.hash(byte);
                if let Some(level) = self.top() {
                    level.expects_key = level.is_object;
                }
            }
            b':' => {
                self.hash(byte);
                if let Some(level) = self.top() {
                    level.expects_key = false;
                }
            }
            _ if is_bare => self.keep(&[byte]),
            _ => {
                self.begin_value();
                self.token.clear();
                self.keep(&[byte]);
                self.inside = if byte == b'"' { Inside::Text } else { Inside::Bare };
            }
        }
    }

    /// The current level, if its keys are tracked.
    fn top(&mut self) -> Option<&mut Level> {
        if self.deeper > 0 { None } else { self.levels.last_mut() }
    }

    fn open(&mut self, is_object: bool) {
        if self.levels.len() < LEVELS_MAX {
            self.levels.push(Level { is_object, key: Vec::new(), expects_key: is_object });
        } else {
            self.deeper = self.deeper.saturating_add(1);
        }
    }

    fn close(&mut self) {
        if self.deeper > 0 {
            self.deeper -= 1;
        } else {
            self.levels.pop();
        }
    }

    /// Start of a value or key.
    fn begin_value(&mut self) {
        self.has_begun = true;
        if self.deeper > 0 {
            return;
        }
        let Some(level) = self.levels.last().filter(|level| !level.expects_key) else { return };
        if self.levels.len() == 1 && level.is_object {
            for (name, is_present) in self.wanted.iter().zip(&mut self.present) {
                *is_present |= name.as_bytes() == level.key;
            }
        }
        let mut is_item = false;
        for (path, count) in self.counted.iter().zip(&mut self.counts) {
            let keys = self.levels.iter().map(|level| level.key.as_slice());
            let is_here = self.levels.len() == path.len() + 1
                && (!level.is_object || !path.is_empty())
                && keys.zip(*path).all(|(key, wanted)| key == wanted.as_bytes());
            *count += u64::from(is_here);
            is_item |= is_here;
        }
        if is_item {
            self.item = Some((XxHash64::with_seed(0), self.levels.len()));
        }
    }

    /// Adds the current item to the digest if the next separator or bracket ends it.
    fn end_item(&mut self) {
        let levels = self.levels.len();
        let is_end = |item: &mut (XxHash64, usize)| item.1 == levels;
        if self.deeper == 0
            && let Some((hash, _)) = self.item.take_if(is_end)
        {
            self.digest = self.digest.wrapping_add(hash.finish());
        }
    }

    fn hash(&mut self, byte: u8) {
        if let Some((hash, _)) = &mut self.item {
            hash.write(&[byte]);
        }
    }

    /// End of the value or key in `token`.
    fn end_value(&mut self, is_text: bool) {
        let is_top = self.levels.len() == 1;
        let token = std::mem::take(&mut self.token);
        let Some(level) = self.top() else { return };
        if level.expects_key {
            if is_text {
                // Without its quotes. No wanted key has escapes.
                level.key = token.get(1..token.len().saturating_sub(1)).unwrap_or(&[]).to_vec();
            }
        } else if level.is_object && is_top {
            let at = self.levels.first().and_then(|level| {
                self.wanted.iter().position(|wanted| wanted.as_bytes() == level.key)
            });
            // A value that exceeds the maximum is absent.
            let whole = (token.len() < TOKEN_MAX).then_some(token);
            if let Some(value) = at.and_then(|at| self.values.get_mut(at)) {
                *value = whole;
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if let Some((hash, _)) = &mut self.item {
            hash.write(bytes);
        }
        if self.deeper == 0 {
            let room = TOKEN_MAX.saturating_sub(self.token.len());
            self.token.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or(bytes));
        }
    }
}
