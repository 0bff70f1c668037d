//! STIX objects: a bundle, a TAXII 2.1 envelope, an array of objects or bundles, or one of these per
//! line; also several documents one behind the other.
//!
//! Documents are streamed without a tree, and memory is bounded by the largest object. Only
//! indicators of STIX 2.1 (and of 2.0, which some feeds still use) become entries; marking
//! definitions supply their levels. docs/stix.md lists the supported properties.

#[cfg(test)]
mod hostile_tests;
mod markings;
mod object;
#[cfg(test)]
mod odd_tests;
mod stream;
#[cfg(test)]
mod tests;
mod text_list;
mod window;

use std::io::Read;

use serde::Deserialize;
use serde::de::{DeserializeSeed as _, IgnoredAny};
use serde_json::value::RawValue;

use super::columns::JsonStr;
use super::entry::{EntrySink, ReadError, ReadPolicy};
use super::json::EachElement;
use crate::base::json_text::JsonText;
use crate::intel::rejects::RejectReason;
use markings::Markings;
use object::{StixObject, TypeOnly};
use stream::{ObjectStream, Piece, PieceKind};

/// Maximum number of bundles around a bundle. Each has a buffer of its own.
const DEPTH_MAX: u8 = 4;
/// Maximum length in bytes of the text of a rejected object.
const SHOWN_MAX: usize = 400;

/// Reads a whole document. Positions count its objects, or its lines if it has one object per line,
/// from `first_position`; returns their number.
///
/// An invalid object is rejected by itself, and the next one is read, as long as its brackets are
/// balanced.
pub fn read_stix(
    input: impl Read,
    policy: &ReadPolicy,
    first_position: u64,
    entries: &mut dyn EntrySink,
) -> Result<u64, ReadError> {
    let mut reader =
        StixReader { policy, entries, markings: Markings::default(), objects: 0, others: 0 };
    let text = JsonText::new(input).repairing_utf8();
    let positions = reader.document(text, first_position, 0)?;
    let StixReader { entries, markings, objects, others, .. } = reader;
    if objects == 0 && others > 0 {
        let error = format!("none of the {others} objects in the body is a STIX object");
        return Err(ReadError::Format(error));
    }
    markings.finish(entries);
    Ok(positions)
}

/// State between the objects of a document.
struct StixReader<'r> {
    policy: &'r ReadPolicy,
    entries: &'r mut dyn EntrySink,
    markings: Markings,
    /// Number of STIX objects.
    objects: u64,
    /// Number of other values.
    others: u64,
}

impl StixReader<'_> {
    /// Reads a document, or a bundle inside `depth` others, which has a single position.
    fn document(
        &mut self,
        input: impl Read,
        first_position: u64,
        depth: u8,
    ) -> Result<u64, ReadError> {
        let mut stream = ObjectStream::new(input);
        let mut is_empty = false;
        while let Some(piece) = stream.next()? {
            let position = if depth > 0 { first_position } else { first_position + piece.index };
            match piece.kind {
                PieceKind::WholeDocument if is_empty_page(piece.bytes) => is_empty = true,
                PieceKind::TooLarge => {
                    self.objects += 1;
                    self.reject(position, RejectReason::LineTooLong, piece.bytes);
                }
                PieceKind::NotAnObject => self.reject_value(piece.bytes, position),
                PieceKind::Object
                | PieceKind::WholeDocument
                | PieceKind::Line
                | PieceKind::LastLine => {
                    self.object(&piece, position, depth)?;
                }
            }
        }
        // An empty page is not an object, unless something follows at the next position.
        Ok(if is_empty && stream.positions() == 1 { 0 } else { stream.positions() })
    }

    fn object(&mut self, piece: &Piece<'_>, position: u64, depth: u8) -> Result<(), ReadError> {
        // serde would read an array as an object, property by property.
        if !piece.bytes.trim_ascii_start().starts_with(b"{") {
            self.reject_value(piece.bytes, position);
            return Ok(());
        }
        let object: StixObject<'_> = match serde_json::from_slice(piece.bytes) {
            Ok(object) => object,
            Err(error) if error.is_eof() && piece.kind == PieceKind::LastLine => {
                return Err(ReadError::Truncated("in its last line".to_owned()));
            }
            Err(error) => {
                self.reject_invalid(piece.bytes, position, &error);
                return Ok(());
            }
        };
        match object.object_type.as_str() {
            "" | "bundle" if piece.kind == PieceKind::WholeDocument && object.objects.is_some() => {
                self.values(object.objects, position, depth)?;
            }
            "" => {
                self.others += 1;
                let reason = RejectReason::Malformed("an object without a STIX type".to_owned());
                self.reject(position, reason, piece.bytes);
            }
            "indicator" => {
                self.objects += 1;
                match object.entry(self.policy, position, self.entries) {
                    Ok(entry) => self.markings.push(entry, object.markings(), self.entries),
                    Err(reason) => self.reject(position, reason, piece.bytes),
                }
            }
            "marking-definition" => {
                self.objects += 1;
                let texts = [object.tlp(), object.name.as_str()];
                self.markings.add_definition(object.id.as_str(), texts, self.entries);
            }
            "bundle" if piece.kind != PieceKind::WholeDocument => {
                self.objects += 1;
                self.bundle(piece.bytes, position, depth + 1)?;
            }
            _ => self.objects += 1,
        }
        Ok(())
    }

    /// Reads a bundle that is an object of another document.
    fn bundle(&mut self, bytes: &[u8], position: u64, depth: u8) -> Result<(), ReadError> {
        if depth > DEPTH_MAX {
            let reason = format!("a bundle inside more than {DEPTH_MAX} others");
            self.reject(position, RejectReason::Malformed(reason), bytes);
            return Ok(());
        }
        match self.document(bytes, position, depth) {
            Err(ReadError::Io(error)) => Err(ReadError::Io(error)),
            Err(error) => {
                self.reject(position, RejectReason::Malformed(error.to_string()), bytes);
                Ok(())
            }
            Ok(_positions) => Ok(()),
        }
    }

    /// Reads `objects` of a document in which it is not an array: a list may be written as an object
    /// with numbers as keys.
    fn values(
        &mut self,
        objects: Option<&RawValue>,
        position: u64,
        depth: u8,
    ) -> Result<(), ReadError> {
        let text = objects.map_or("null", RawValue::get);
        let mut read = Ok(());
        let each = EachElement(|text: &str| {
            let bytes = text.as_bytes();
            let kind = match bytes.first() {
                Some(b'{') => PieceKind::Object,
                _ => return self.reject_value(bytes, position),
            };
            if read.is_ok() {
                read = self.object(&Piece { index: 0, kind, bytes }, position, depth);
            }
        });
        let is_list = each.deserialize(&mut serde_json::Deserializer::from_str(text));
        read?;
        if !is_list.is_ok_and(|is_list| is_list) {
            self.others += 1;
            let reason = RejectReason::Malformed("objects is not a list".to_owned());
            self.reject(position, reason, text.as_bytes());
        }
        Ok(())
    }

    fn reject_value(&mut self, bytes: &[u8], position: u64) {
        self.others += 1;
        self.reject(position, RejectReason::Malformed("not an object".to_owned()), bytes);
    }

    /// Rejects an invalid object, unless it has a type that is not used.
    fn reject_invalid(&mut self, bytes: &[u8], position: u64, error: &serde_json::Error) {
        let object = serde_json::from_slice::<TypeOnly<'_>>(bytes);
        match object.as_ref().map(|it| it.object_type.as_str()) {
            Ok("indicator" | "marking-definition") => self.objects += 1,
            Ok("") | Err(_) => self.others += 1,
            Ok(_) => {
                self.objects += 1;
                return;
            }
        }
        self.reject(position, RejectReason::from_json(error), bytes);
    }

    fn reject(&mut self, position: u64, reason: RejectReason, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes.get(..SHOWN_MAX).unwrap_or(bytes));
        self.entries.reject(position, reason, &text);
    }
}

/// True for a TAXII page or a bundle without objects. A server sends `{}` if it has nothing new
/// (TAXII 2.1, section 3.7).
fn is_empty_page(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Page<'a> {
        #[serde(rename = "more")]
        _more: Option<IgnoredAny>,
        #[serde(rename = "next")]
        _next: Option<IgnoredAny>,
        #[serde(rename = "objects")]
        _objects: Option<()>,
        #[serde(borrow, default, rename = "type")]
        object_type: JsonStr<'a>,
        #[serde(rename = "id")]
        _id: Option<IgnoredAny>,
        #[serde(rename = "spec_version")]
        _spec_version: Option<IgnoredAny>,
    }
    serde_json::from_slice::<Page<'_>>(bytes)
        .is_ok_and(|page| matches!(page.object_type.as_str(), "" | "bundle"))
}
