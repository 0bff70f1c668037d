//! Columns of custom tables in Log Analytics, and their names there.

/// Column with the true time of a record: the service replaces a `TimeGenerated` older than two days
/// with the time of ingestion.
pub const EVENT_TIME: &str = "EventTime";

/// Column names that Log Analytics reserves.
const RESERVED: [&str; 7] =
    ["_ResourceId", "id", "_SubscriptionId", "TenantId", "Type", "UniqueId", "Title"];

/// Returns the name of a column in a custom table; `None` for a column that is left out.
///
/// `_ResourceId` and `_SubscriptionId` lose their underscore, because the service sets its own.
/// `Type` is left out because the table's name has it, and so are the billing columns of the service.
pub fn custom_column(name: &str) -> Option<&str> {
    match name {
        "_ResourceId" | "_SubscriptionId" => name.strip_prefix('_'),
        _ => Some(name).filter(|name| is_allowed(name)),
    }
}

fn is_allowed(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= 45
        && name.chars().all(is_plain)
        && !RESERVED.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::custom_column;
    use crate::schema::TABLES;

    #[test]
    fn reserved_columns_are_renamed_or_left_out() {
        for (name, want) in [
            ("Computer", Some("Computer")),
            ("VMConnection_TimeGenerated", Some("VMConnection_TimeGenerated")),
            ("_ResourceId", Some("ResourceId")),
            ("_SubscriptionId", Some("SubscriptionId")),
            ("Type", None),
            ("Title", None),
            ("_BilledSize", None),
            ("1st", None),
            ("@timestamp", None),
            ("", None),
        ] {
            assert_eq!(custom_column(name), want, "{name}");
        }
        let (longest, longer) = ("a".repeat(45), "a".repeat(46));
        assert_eq!((custom_column(&longest), custom_column(&longer)), (Some(&*longest), None));
        let all = TABLES.iter().flat_map(|table| table.columns);
        let left_out: std::collections::BTreeSet<&str> =
            all.map(|it| it.name).filter(|name| custom_column(name).is_none()).collect();
        assert_eq!(
            left_out.into_iter().collect::<Vec<_>>(),
            ["Type", "_BilledSize", "_IsBillable"]
        );
    }
}
