//! Values of tags: Traffic Light Protocol, galaxies and taxonomies.

use crate::intel::formats::json::truncated;

/// Returns the level of the most restrictive `tlp:` tag; "" for none.
pub(super) fn tlp(tags: &[String]) -> String {
    const LEVELS: [&str; 6] = ["white", "clear", "green", "amber", "amber+strict", "red"];
    let levels = tags.iter().filter_map(|tag| {
        let (family, word) = tag.split_once(':')?;
        let word = word.trim().to_lowercase();
        family.eq_ignore_ascii_case("tlp").then(|| LEVELS.iter().position(|it| *it == word))?
    });
    levels
        .max()
        .and_then(|position| LEVELS.get(position))
        .map(|word| (*word).to_owned())
        .unwrap_or_default()
}

/// Returns the groups of `misp-galaxy:threat-actor="…"` and `misp-galaxy:mitre-intrusion-set="…"`.
pub(super) fn groups(tags: &[String]) -> String {
    let named = tags.iter().filter_map(|tag| {
        let (family, name) = tag.split_once('=')?;
        ["misp-galaxy:threat-actor", "misp-galaxy:mitre-intrusion-set"]
            .contains(&family)
            .then(|| name.trim_matches('"'))
    });
    truncated(&named.collect::<Vec<_>>().join(", ")).to_owned()
}

/// Returns the confidence, 0 to 100, by the numerical values of MISP's taxonomies.
pub(super) fn confidence(tag: &str) -> Option<f64> {
    let (family, word) = tag.split_once('=')?;
    let word = word.trim_matches('"');
    match (family, word) {
        ("misp:confidence-level", "completely-confident") => Some(100.0),
        ("misp:confidence-level", "usually-confident") => Some(75.0),
        ("misp:confidence-level", "fairly-confident") => Some(50.0),
        ("misp:confidence-level", "rarely-confident") => Some(25.0),
        ("misp:confidence-level", "unconfident") => Some(0.0),
        ("admiralty-scale:information-credibility", "1") => Some(100.0),
        ("admiralty-scale:information-credibility", "2") => Some(75.0),
        ("admiralty-scale:information-credibility", "3") => Some(50.0),
        ("admiralty-scale:information-credibility", "4") => Some(25.0),
        ("admiralty-scale:information-credibility", "5") => Some(0.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(tags: &[&str]) -> Vec<String> {
        tags.iter().map(|tag| (*tag).to_owned()).collect()
    }

    #[test]
    fn the_most_restrictive_level_counts() {
        for (tags, level) in [
            (&["tlp:white"][..], "white"),
            (&["x", "TLP:GREEN", "tlp:amber+strict", "tlp:amber"], "amber+strict"),
            (&["tlp:unclear", "tlp"], ""),
            (&[], ""),
        ] {
            assert_eq!(tlp(&owned(tags)), level, "{tags:?}");
        }
    }

    #[test]
    fn groups_and_confidence_are_read_of_their_families_only() {
        let tags = owned(&[
            "misp-galaxy:threat-actor=\"Sofacy\"",
            "misp-galaxy:tool=\"X\"",
            "misp-galaxy:mitre-intrusion-set=\"APT28 - G0007\"",
        ]);
        assert_eq!(groups(&tags), "Sofacy, APT28 - G0007");
        assert_eq!(confidence("misp:confidence-level=\"usually-confident\""), Some(75.0));
        assert_eq!(confidence("admiralty-scale:information-credibility=\"5\""), Some(0.0));
        assert_eq!(confidence("admiralty-scale:source-reliability=\"a\""), None);
    }
}
