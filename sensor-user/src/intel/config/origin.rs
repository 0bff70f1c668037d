//! Origin of a saved set: the text that ties a set on disk to the configuration that it was pulled
//! with.
//!
//! A set whose origin differs is discarded, and its feed is pulled again. So the text is a disk
//! format: it must not follow renames of Rust types, variants or fields. Its spelling is that of
//! version 0.1.0 (`tests/fixtures/state-v1`).

use sha2::{Digest as _, Sha256};

use super::{FeedConfig, FeedSource};
use crate::intel::formats::kind::FeedKind;
use crate::intel::formats::list::{ListColumns, ListField, ListFormat, ListShape};

impl FeedConfig {
    /// Returns the text that identifies the sets of this feed: kind, location and every setting
    /// that decides which indicators a document gives.
    pub fn origin(&self) -> String {
        let location = match &self.source {
            // A hash, since the URL may hold a secret.
            FeedSource::Http(url) => format!("{:x}", Sha256::digest(url.as_str())),
            other => other.shown(),
        };
        format!(
            "{} {location} {} {} {} {:?} {}",
            kind(self.kind),
            self.allow_private,
            self.min_prefix_v4,
            self.min_prefix_v6,
            self.min_confidence,
            list(&self.list),
        )
    }
}

const fn kind(kind: FeedKind) -> &'static str {
    match kind {
        FeedKind::List => "List",
        FeedKind::Sentinel => "Sentinel",
        FeedKind::Stix => "Stix",
        FeedKind::Taxii2 => "Taxii2",
        FeedKind::Misp => "Misp",
        FeedKind::MispFeed => "MispFeed",
        FeedKind::CrowdSec => "CrowdSec",
        FeedKind::SentinelQuery => "SentinelQuery",
    }
}

const fn shape(shape: ListShape) -> &'static str {
    match shape {
        ListShape::Plain => "Plain",
        ListShape::Csv => "Csv",
        ListShape::Json => "Json",
        ListShape::JsonLines => "JsonLines",
    }
}

const fn field(field: ListField) -> &'static str {
    match field {
        ListField::Address => "Address",
        ListField::Port => "Port",
        ListField::PrefixLen => "PrefixLen",
        ListField::ThreatType => "ThreatType",
        ListField::Description => "Description",
        ListField::Confidence => "Confidence",
        ListField::FirstSeen => "FirstSeen",
        ListField::LastSeen => "LastSeen",
        ListField::Expires => "Expires",
        ListField::Tags => "Tags",
        ListField::Url => "Url",
        ListField::Id => "Id",
        ListField::Kind => "Kind",
        ListField::Tlp => "Tlp",
        ListField::LastAddress => "LastAddress",
    }
}

fn list(format: &ListFormat) -> String {
    // Exhaustive, so that a new setting must be added here.
    let ListFormat {
        shape: list_shape,
        separator,
        columns: own,
        outer,
        kinds,
        is_key_id,
        threat_type,
        description,
        url,
    } = format;
    let (shape, own, outer) = (shape(*list_shape), columns(own), columns(outer));
    format!(
        "ListFormat {{ shape: {shape}, separator: {separator:?}, columns: {own}, outer: {outer}, \
         kinds: {kinds:?}, is_key_id: {is_key_id}, threat_type: {threat_type:?}, \
         description: {description:?}, url: {url:?} }}"
    )
}

fn columns(columns: &ListColumns) -> String {
    let named = columns.0.iter().map(|(name, columns)| format!("{}: {columns:?}", field(*name)));
    format!("Columns({{{}}})", named.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(kind: FeedKind) -> FeedConfig {
        let url = "https://feeds.example/list?key=1".parse().unwrap();
        FeedConfig::new("x".to_owned(), kind, FeedSource::Http(url))
    }

    #[test]
    fn the_origin_of_each_kind_is_spelled_as_in_version_0_1_0() {
        const REST: &str = "e283056f3bd1d8619128e448c34af9dee236bf65877acf38c7c86b0532d6f221 \
            false 8 19 None ListFormat { shape: Plain, separator: None, columns: Columns({}), \
            outer: Columns({}), kinds: [], is_key_id: false, threat_type: \"\", \
            description: \"\", url: \"\" }";
        for (kind, word) in [
            (FeedKind::List, "List"),
            (FeedKind::Sentinel, "Sentinel"),
            (FeedKind::Stix, "Stix"),
            (FeedKind::Taxii2, "Taxii2"),
            (FeedKind::Misp, "Misp"),
            (FeedKind::MispFeed, "MispFeed"),
            (FeedKind::CrowdSec, "CrowdSec"),
            (FeedKind::SentinelQuery, "SentinelQuery"),
        ] {
            assert_eq!(feed(kind).origin(), format!("{word} {REST}"));
        }
    }

    #[test]
    fn the_origin_spells_every_setting_of_a_list_as_in_version_0_1_0() {
        let names = |field: ListField| (field, vec![field.name().to_owned(), "2".to_owned()]);
        let mut feed = feed(FeedKind::List);
        feed.source = FeedSource::File("/etc/list.csv".into());
        (feed.allow_private, feed.min_confidence) = (true, Some(50));
        feed.list = ListFormat {
            shape: ListShape::Csv,
            separator: Some('\t'),
            columns: ListColumns(ListField::ALL.into_iter().map(names).collect()),
            outer: ListColumns([(ListField::Tlp, vec!["a \"\u{1b}é".to_owned()])].into()),
            kinds: vec!["ip".to_owned(), "net".to_owned()],
            is_key_id: true,
            threat_type: "C2".to_owned(),
            description: "d".to_owned(),
            url: "https://x/{}".to_owned(),
        };
        let expected = concat!(
            r"List /etc/list.csv true 8 19 Some(50) ListFormat { shape: Csv, separator: Some('\t'), ",
            r#"columns: Columns({Address: ["address", "2"], Port: ["port", "2"], "#,
            r#"PrefixLen: ["prefix_len", "2"], ThreatType: ["threat_type", "2"], "#,
            r#"Description: ["description", "2"], Confidence: ["confidence", "2"], "#,
            r#"FirstSeen: ["first_seen", "2"], LastSeen: ["last_seen", "2"], "#,
            r#"Expires: ["expires", "2"], Tags: ["tags", "2"], Url: ["url", "2"], Id: ["id", "2"], "#,
            r#"Kind: ["kind", "2"], Tlp: ["tlp", "2"], LastAddress: ["last_address", "2"]}), "#,
            r#"outer: Columns({Tlp: ["a \"\u{1b}é"]}), "#,
            r#"kinds: ["ip", "net"], is_key_id: true, threat_type: "C2", description: "d", "#,
            r#"url: "https://x/{}" }"#,
        );
        assert_eq!(feed.origin(), expected);
        for (shape, word) in [
            (ListShape::Plain, "Plain"),
            (ListShape::Json, "Json"),
            (ListShape::JsonLines, "JsonLines"),
        ] {
            feed.list.shape = shape;
            assert!(feed.origin().contains(&format!("shape: {word}, ")), "{shape:?}");
        }
    }
}
