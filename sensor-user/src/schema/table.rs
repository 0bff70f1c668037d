//! `Table`: name and columns of a table, declared together with the struct of its rows.

use jiff::Timestamp;

/// A table of rows.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// Name of the table, the value of the `Type` column.
    pub name: &'static str,
    /// Columns in the order in which serde writes them.
    pub columns: &'static [Column],
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Name of the column.
    pub name: &'static str,
    /// Type of its values.
    pub column_type: ColumnType,
    /// True if a value may be null. Absent text is "", not null.
    pub nullable: bool,
    /// True if Microsoft's table has the column; false for an extension by netsensor.
    pub microsoft: bool,
}

/// Column types of Log Analytics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// `datetime`: UTC; RFC 3339 in JSON.
    DateTime,
    /// `string`: UTF-8 text.
    Text,
    /// `int`: 32 bits.
    Int,
    /// `long`: 64 bits.
    Long,
    /// `real`: a double.
    Real,
    /// `bool`: true or false.
    Bool,
    /// `dynamic`: an array of strings here.
    Texts,
}

/// A Rust type that a column can have.
pub(super) trait ColumnValue {
    const TYPE: ColumnType;
    const NULLABLE: bool = false;
}

macro_rules! column_values {
    ($($type:ty => $column_type:ident,)*) => {
        $(impl ColumnValue for $type {
            const TYPE: ColumnType = ColumnType::$column_type;
        })*
    };
}

column_values! {
    Timestamp => DateTime,
    String => Text,
    u16 => Int,
    u32 => Int,
    i32 => Int,
    u64 => Long,
    f64 => Real,
    bool => Bool,
    Vec<String> => Texts,
}

impl<T: ColumnValue> ColumnValue for Option<T> {
    const TYPE: ColumnType = T::TYPE;
    const NULLABLE: bool = true;
}

impl Column {
    pub(super) const fn new<T: ColumnValue>(name: &'static str, microsoft: bool) -> Self {
        Self { name, column_type: T::TYPE, nullable: T::NULLABLE, microsoft }
    }
}

/// Returns the number of columns in all groups.
pub(super) const fn count(mut groups: &[&[Column]]) -> usize {
    let mut count = 0;
    while let [group, rest @ ..] = groups {
        count += group.len();
        groups = rest;
    }
    count
}

/// Joins the columns of all groups.
pub(super) const fn concat<const COUNT: usize>(mut groups: &[&[Column]]) -> [Column; COUNT] {
    let mut columns = [Column::new::<String>("", false); COUNT];
    let mut free: &mut [Column] = &mut columns;
    while let [group, rest @ ..] = groups {
        let (filled, free_rest) = free.split_at_mut(group.len());
        filled.copy_from_slice(group);
        (free, groups) = (free_rest, rest);
    }
    columns
}

/// Declares a row's struct with the columns of its table. After `=` of each field is the name of its
/// column, that of an `extension` column, `columns of` the struct of a flattened field, or `no
/// column` for a field that is not written.
macro_rules! row {
    (
        $(#[$attribute:meta])*
        pub struct $row:ident {
            $(
                $(#[$meta:meta])*
                $field:ident: $type:ty =
                    $($name:literal)? $(extension $extension:literal)? $(columns of $group:ident)?
                    $(no $column:ident)?,
            )*
        }
    ) => {
        $(#[$attribute])*
        pub struct $row {
            $(
                $(#[$meta])*
                $(#[serde(rename = $name)])?
                $(#[serde(rename = $extension)])?
                pub $field: $type,
            )*
        }

        impl $row {
            const GROUPS: &[&[$crate::schema::Column]] = &[$(
                $(&[$crate::schema::Column::new::<$type>($name, true)],)?
                $(&[$crate::schema::Column::new::<$type>($extension, false)],)?
                $(&$group::COLUMNS,)?
            )*];

            /// Columns in the order in which serde writes them.
            pub(super) const COLUMNS: [
                $crate::schema::Column;
                $crate::schema::table::count(Self::GROUPS)
            ] = $crate::schema::table::concat(Self::GROUPS);
        }
    };
}

pub(super) use row;
