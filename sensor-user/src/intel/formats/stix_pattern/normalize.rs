//! Merging of sufficient prefixes, so that a connection hits a pattern once where possible:
//! removes duplicates and prefixes inside a network without ports, and merges those that differ in
//! their remote ports only.

use std::collections::BTreeSet;

use super::SufficientPrefix;
use super::ports::merge_adjacent;

/// Removes those of `found` that are duplicates or inside another without ports, and merges those that
/// differ in their remote ports only, in the order of the first ones.
pub(super) fn merge(found: Vec<SufficientPrefix>) -> Vec<SufficientPrefix> {
    if found.len() < 2 {
        return found;
    }
    let mut sorted: Vec<(usize, SufficientPrefix)> = found.into_iter().enumerate().collect();
    // A network comes before what is inside it.
    sorted.sort_by(|(a_at, a), (b_at, b)| {
        let key = |it: &SufficientPrefix| (it.prefix.network(), it.prefix.prefix_len());
        key(a).cmp(&key(b)).then_with(|| a.ports.local.cmp(&b.ports.local)).then(a_at.cmp(b_at))
    });
    // Equal prefixes are adjacent: one without ports makes the others redundant.
    let mut kept: Vec<(usize, SufficientPrefix)> = Vec::with_capacity(sorted.len());
    let mut enclosing: Vec<ipnet::IpNet> = Vec::new();
    let open: BTreeSet<ipnet::IpNet> =
        sorted.iter().filter(|(_, it)| it.ports.is_any()).map(|(_, it)| it.prefix).collect();
    for (at, next) in sorted {
        while enclosing.last().is_some_and(|it| !it.contains(&next.prefix)) {
            enclosing.pop();
        }
        if enclosing.last().is_some() {
            continue;
        }
        if open.contains(&next.prefix) {
            if next.ports.is_any() {
                enclosing.push(next.prefix);
                kept.push((at, next));
            }
            continue;
        }
        match kept.last_mut() {
            Some((first, known))
                if known.prefix == next.prefix && known.ports.local == next.ports.local =>
            {
                *first = at.min(*first);
                // An empty list is every port.
                if known.ports.remote.is_empty() || next.ports.remote.is_empty() {
                    known.ports.remote.clear();
                } else {
                    known.ports.remote.extend(next.ports.remote);
                }
            }
            _ => kept.push((at, next)),
        }
    }
    kept.sort_by_key(|(at, _)| *at);
    kept.into_iter()
        .map(|(_, mut it)| {
            it.ports.remote.sort_unstable();
            it.ports.remote = merge_adjacent(it.ports.remote);
            it
        })
        .collect()
}
