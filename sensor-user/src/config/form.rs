//! `Form`: a form of values, such as a duration in a range. It parses a TOML value, and describes the
//! accepted values for messages, the reference and the JSON Schema.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use regex::Regex;
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value, json};
use toml::de::DeValue;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_mins(1);
pub(super) const HOUR: Duration = Duration::from_hours(1);
pub(super) const DAY: Duration = Duration::from_hours(24);

/// Directories that paths in a configuration are relative to.
#[derive(Debug, Clone, Copy)]
pub(super) struct BaseDirs<'p> {
    /// Directory of the configuration file.
    pub(super) folder: &'p Path,
    /// Directory of the unit's credentials.
    pub(super) credentials: Option<&'p Path>,
}

/// Problems with a value: each with the index of the item of a list, if it is one.
#[derive(Debug)]
pub(super) struct Errors(pub(super) Vec<(Option<usize>, String)>);

impl From<String> for Errors {
    fn from(problem: String) -> Self {
        Self(vec![(None, problem)])
    }
}

type Parse<T> = dyn Fn(&Value, BaseDirs<'_>) -> Result<T, Errors>;
type Show<T> = dyn Fn(&T) -> Value;

/// A form of values that become a `T`.
pub(super) struct Form<T> {
    /// Accepted values, in words.
    pub(super) accepts: String,
    /// Accepted values, as JSON Schema.
    pub(super) schema: Value,
    parse: Box<Parse<T>>,
    show: Option<Box<Show<T>>>,
}

impl<T: 'static> Form<T> {
    pub(super) fn new<E: Into<Errors>>(
        accepts: impl Into<String>,
        schema: Value,
        parse: impl Fn(&Value, BaseDirs<'_>) -> Result<T, E> + 'static,
    ) -> Self {
        let parse = Box::new(move |value: &Value, dirs: BaseDirs<'_>| {
            parse(value, dirs).map_err(Into::into)
        });
        Self { accepts: accepts.into(), schema, parse, show: None }
    }

    /// Shows values by `show` instead of as written.
    pub(super) fn shown(self, show: impl Fn(&T) -> Value + 'static) -> Self {
        Self { show: Some(Box::new(show)), ..self }
    }

    /// Text of which the JSON Schema requires that it matches `pattern`.
    pub(super) fn with_pattern(self, pattern: &str) -> Self {
        Self { schema: json!({ "type": "string", "pattern": pattern }), ..self }
    }

    /// The values that pass `check`.
    pub(super) fn checked(self, check: impl Fn(&T) -> Result<(), String> + 'static) -> Self {
        let Self { accepts, schema, parse, show } = self;
        let form = Self { accepts, schema, parse, show: None };
        Self { show, ..form.try_map(move |value| check(&value).map(|()| value)) }
    }

    /// Values that `map` makes of these, or refuses.
    pub(super) fn try_map<U: 'static>(
        self,
        map: impl Fn(T) -> Result<U, String> + 'static,
    ) -> Form<U> {
        let Self { accepts, schema, parse, .. } = self;
        Form::new(accepts, schema, move |value, dirs| -> Result<U, Errors> {
            Ok(map(parse(value, dirs)?)?)
        })
    }

    pub(super) fn parse(&self, value: &Value, dirs: BaseDirs<'_>) -> Result<T, Errors> {
        (self.parse)(value, dirs)
    }

    /// Like [`parse`](Self::parse), with the problems in one text.
    pub(super) fn parse_one(&self, value: &Value, dirs: BaseDirs<'_>) -> Result<T, String> {
        let problems = |errors: Errors| errors.0.into_iter().map(|(_, problem)| problem).collect();
        self.parse(value, dirs).map_err(problems)
    }

    /// The value as JSON, without secrets: normalized, or else as `written`.
    pub(super) fn show(&self, value: &T, written: Option<&Value>) -> Value {
        match &self.show {
            Some(show) => show(value),
            None => written.cloned().unwrap_or_default(),
        }
    }
}

/// An error if `condition` is false.
pub(super) fn ensure(condition: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(problem()) }
}

/// Any text.
pub(super) fn text() -> Form<String> {
    text_as("text in quotes")
}

/// Text that the caller parses.
pub(super) fn text_as(accepts: &'static str) -> Form<String> {
    let schema = json!({ "type": "string" });
    Form::new(accepts, schema, move |value, _| quoted(value, accepts).map(str::to_owned))
        .shown(|text| json!(text))
}

/// Text that matches `pattern`, which is a regular expression both here and in the JSON Schema.
pub(super) fn matching(
    what: &'static str,
    accepts: &'static str,
    pattern: &'static str,
) -> Form<String> {
    let form = text_as(accepts).checked(move |text| {
        let matches = Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text));
        ensure(matches, || format!("{text:?} is not {what}; use {accepts}"))
    });
    form.with_pattern(pattern)
}

/// Name of a feed, a sink and so on.
pub(super) fn name() -> Form<String> {
    let accepts = "1 to 64 letters, digits, -, _ or . in quotes";
    matching("a name", accepts, "^[A-Za-z0-9._-]{1,64}$")
}

/// Text that is valid in the path of a URL without escaping.
pub(super) fn path_word() -> Form<String> {
    let accepts = "letters, digits, -, _, . and parentheses in quotes";
    matching("a name", accepts, "^[A-Za-z0-9_()-][A-Za-z0-9_.()-]{0,127}$")
}

/// `true` or `false`.
pub(super) fn boolean() -> Form<bool> {
    let form = "true or false";
    Form::new(form, json!({ "type": "boolean" }), move |value, _| {
        value.as_bool().ok_or_else(|| wrong_type(value, form))
    })
    .shown(|value| json!(value))
}

/// A whole number in `range`.
pub(super) fn number<T>(range: RangeInclusive<T>) -> Form<T>
where
    T: PartialOrd + Display + Copy + DeserializeOwned + serde::Serialize + 'static,
{
    let (from, to) = (*range.start(), *range.end());
    let form = format!("a whole number from {from} to {to}");
    let schema = json!({ "type": "integer", "minimum": from, "maximum": to });
    Form::new(form.clone(), schema, move |value, _| {
        let number = value.as_i64().ok_or_else(|| wrong_type(value, &form))?;
        let fitting = serde_json::from_value(value.clone()).ok();
        fitting
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("{number} is out of range; use {form}"))
    })
    .shown(|number| json!(number))
}

/// A duration in the notation of `humantime`, in `range`.
pub(super) fn duration(range: RangeInclusive<Duration>) -> Form<Duration> {
    let one = "one such as \"30s\", \"5m\" or \"1h 30m\"";
    let text = format!("{} to {}", duration_text(*range.start()), duration_text(*range.end()));
    // Units of `humantime::parse_duration`.
    let unit = "(n|u|µ|m)s|(n|u|m)sec|nanos|micros|millis|s|secs?|seconds?|m|mins?|minutes?|h|hrs?\
                |hours?|d|days?|w|wks?|weeks?|M|months?|y|yrs?|years?";
    let pattern = format!(r"^(0|(\s*[0-9]+\s*({unit}))+)\s*$");
    let schema = json!({ "type": "string", "pattern": pattern });
    Form::new(format!("a duration, {text}"), schema, move |value, _| {
        let form = "a duration in quotes such as \"30s\", \"5m\" or \"1h 30m\"";
        let written = quoted(value, form)?;
        let parsed = humantime::parse_duration(written)
            .map_err(|error| format!("{written:?} is not a duration ({error}); use {one}"))?;
        ensure(range.contains(&parsed), || format!("{written:?} is out of range; use {text}"))?;
        Ok::<_, String>(parsed)
    })
    .shown(|duration| json!(duration_text(*duration)))
}

/// The duration in its largest exact unit: `90s`, `1h`, `7d`.
fn duration_text(duration: Duration) -> String {
    let unit = [("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND)]
        .into_iter()
        .find(|(_, unit)| duration >= *unit && duration.as_nanos().is_multiple_of(unit.as_nanos()));
    match unit {
        Some((name, unit)) => format!("{}{name}", duration.as_nanos() / unit.as_nanos()),
        None => humantime::format_duration(duration).to_string(),
    }
}

/// Bytes: a whole number, or text with B, KiB, MiB or GiB; in `range`.
pub(super) fn size<T>(range: RangeInclusive<u64>) -> Form<T>
where
    T: TryFrom<u64> + TryInto<u64> + Copy + 'static,
{
    let form = "a size such as \"64KiB\", \"8MiB\" or \"1GiB\", or a number of bytes";
    let text = format!("{} to {}", size_text(*range.start()), size_text(*range.end()));
    let schema = json!({
        "type": ["string", "integer"],
        "pattern": r"^[0-9]+\s*(B|KiB|MiB|GiB)?$",
        "minimum": range.start(),
        "maximum": range.end(),
    });
    Form::new(format!("a size, {text}"), schema, move |value, _| {
        let bytes = match value {
            Value::String(text) => parse_size(text),
            Value::Number(number) if number.is_i64() => number.as_u64(),
            _ => return Err(wrong_type(value, form)),
        };
        let bytes = bytes.ok_or_else(|| format!("{value} is not a size; use {form}"))?;
        let fitting = range.contains(&bytes).then(|| T::try_from(bytes).ok()).flatten();
        fitting.ok_or_else(|| format!("{value} is out of range; use {text}"))
    })
    .shown(|bytes| json!(size_text((*bytes).try_into().unwrap_or_default())))
}

const UNITS: [(&str, u32); 4] = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

/// `8388608` as `8MiB`: in the largest unit that divides it.
pub(super) fn size_text(bytes: u64) -> String {
    let exact =
        UNITS.iter().find(|(_, shift)| bytes >> shift > 0 && bytes.trailing_zeros() >= *shift);
    exact.map_or_else(|| "0B".to_owned(), |(unit, shift)| format!("{}{unit}", bytes >> shift))
}

fn parse_size(text: &str) -> Option<u64> {
    let unit = UNITS.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
    let (number, shift) = unit.unwrap_or((text, 0));
    let number = number.trim_end();
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(1_u64.checked_shl(shift)?)
}

/// One of the words, each with its value.
pub(super) fn choice<T: Copy + PartialEq + 'static>(words: &[(&'static str, T)]) -> Form<T> {
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let form = names.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
    let (words, shown) = (words.to_vec(), words.to_vec());
    Form::new(form.clone(), json!({ "enum": names }), move |value, _| {
        let text = quoted(value, &form)?;
        let known = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        known.ok_or_else(|| format!("{text:?} is not known here; use {form}"))
    })
    .shown(move |value| json!(shown.iter().find(|(_, it)| it == value).map(|(word, _)| word)))
}

/// One of the names, of which the message for an unknown one shows only the nearest.
pub(super) fn one_of(
    what: &'static str,
    accepts: &'static str,
    names: Vec<&'static str>,
) -> Form<String> {
    let schema = json!({ "enum": names });
    let form = text_as(accepts).checked(move |text| {
        let is_known = names.contains(&text.as_str());
        ensure(is_known, || format!("{text:?} is not {what}; {}", hint(text, &names)))
    });
    Form { schema, ..form }
}

/// A list of values of one form, which `items` names in the plural.
pub(super) fn list<T: 'static>(item: Form<T>, items: &'static str) -> Form<Vec<T>> {
    let form = format!("a list of {items} in [ ]");
    let item = Rc::new(item);
    let (schema, shown) = (json!({ "type": "array", "items": item.schema }), Rc::clone(&item));
    Form::new(form.clone(), schema, move |value, dirs| {
        let array = value.as_array().ok_or_else(|| format!("is not a list; use {form}"))?;
        let (mut values, mut errors) = (Vec::new(), Vec::new());
        for (index, value) in array.iter().enumerate() {
            match item.parse_one(value, dirs) {
                Ok(value) => values.push(value),
                Err(problem) => errors.push((Some(index), problem)),
            }
        }
        if errors.is_empty() { Ok(values) } else { Err(Errors(errors)) }
    })
    .shown(move |values| values.iter().map(|value| shown.show(value, None)).collect())
}

/// A table whose entries `entry` parses.
pub(super) fn table<T: 'static, All: FromIterator<(String, T)> + 'static>(
    accepts: &'static str,
    schema: Value,
    entry: impl Fn(&str, &Value, BaseDirs<'_>) -> Result<T, String> + 'static,
) -> Form<All> {
    Form::new(accepts, schema, move |value, dirs| {
        let table = value.as_object().ok_or_else(|| format!("is not a table; use {accepts}"))?;
        let entries =
            table.iter().map(|(name, value)| Ok((name.clone(), entry(name, value, dirs)?)));
        entries.collect::<Result<All, String>>()
    })
}

/// `did you mean "interval"?`, or all known words if none is near.
pub(super) fn hint(typed: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(typed, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min();
    match near {
        Some((_, name)) => format!("did you mean {name:?}?"),
        None => format!("known are {}", known.join(", ")),
    }
}

/// The value as JSON. A time becomes null, and so does a number that JSON lacks.
pub(super) fn to_json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::Null, Value::from)
        }
        DeValue::Float(number) => {
            let number = number.as_str().parse().ok().and_then(Number::from_f64);
            number.map_or(Value::Null, Value::Number)
        }
        DeValue::Boolean(truth) => Value::Bool(*truth),
        DeValue::Datetime(_) => Value::Null,
        DeValue::Array(items) => items.iter().map(|item| to_json(item.get_ref())).collect(),
        DeValue::Table(table) => {
            let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<_>)| {
                (String::from(AsRef::<str>::as_ref(key.get_ref())), to_json(value.get_ref()))
            };
            Value::Object(table.iter().map(entry).collect::<Map<_, _>>())
        }
    }
}

pub(super) fn quoted<'v>(value: &'v Value, form: &str) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| wrong_type(value, form))
}

fn wrong_type(value: &Value, form: &str) -> String {
    let problem = match value {
        Value::String(text) => format!("{text:?} is text"),
        Value::Number(number) if number.is_f64() => format!("{number} is a decimal number"),
        Value::Number(number) => format!("{number} is a number"),
        Value::Bool(truth) => format!("{truth} is a truth value"),
        Value::Null => "is a time, or not a finite number".to_owned(),
        Value::Array(_) => "is a list".to_owned(),
        Value::Object(_) => "is a section".to_owned(),
    };
    format!("{problem}; use {form}")
}
