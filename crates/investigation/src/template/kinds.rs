//! What a template's variables are, as far as that is known before there is an alert.

use super::check::Found;

/// What a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// One alert.
    Alert,
    /// Alerts.
    Alerts,
    /// Texts by names that only the sender knows: labels, annotations.
    Texts,
    /// Lists of texts by such names.
    Lists,
    /// Texts in a row.
    List,
    /// Anything by names that only the sender knows.
    Values,
    /// The card's resource.
    Resource,
    /// What a loop says of itself.
    Loop,
    /// A text.
    Text,
    /// A number.
    Number,
    /// Not known here.
    Any,
}

/// Every variable of a template's context.
pub(crate) const VARIABLES: [(&str, Kind); 21] = [
    ("alert", Kind::Alert),
    ("alerts", Kind::Alerts),
    ("annotation_values", Kind::Lists),
    ("annotations", Kind::Texts),
    ("card", Kind::Text),
    ("external_url", Kind::Text),
    ("group_labels", Kind::Texts),
    ("label_values", Kind::Lists),
    ("labels", Kind::Texts),
    ("now", Kind::Text),
    ("raw_payload", Kind::Text),
    ("receiver", Kind::Text),
    ("resource", Kind::Resource),
    ("resource_annotations", Kind::Text),
    ("resource_labels", Kind::Text),
    ("resource_name", Kind::Text),
    ("resource_state", Kind::Text),
    ("resource_timestamp", Kind::Text),
    ("resource_type", Kind::Text),
    ("resource_value", Kind::Text),
    ("truncated_alerts", Kind::Number),
];

/// The fields of an alert.
pub(crate) const ALERT: [(&str, Kind); 7] = [
    ("annotations", Kind::Texts),
    ("endsAt", Kind::Text),
    ("generatorURL", Kind::Text),
    ("labels", Kind::Texts),
    ("startsAt", Kind::Text),
    ("status", Kind::Text),
    ("values", Kind::Values),
];

/// The fields of a card's resource.
pub(crate) const RESOURCE: [(&str, Kind); 2] = [("kind", Kind::Text), ("name", Kind::Text)];

/// What a loop says of itself.
const LOOP: [(&str, Kind); 9] = [
    ("depth", Kind::Number),
    ("depth0", Kind::Number),
    ("first", Kind::Any),
    ("index", Kind::Number),
    ("index0", Kind::Number),
    ("last", Kind::Any),
    ("length", Kind::Number),
    ("revindex", Kind::Number),
    ("revindex0", Kind::Number),
];

/// The filters that there are.
pub(crate) const FILTERS: [&str; 52] = [
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "label_value",
    "last",
    "length",
    "lines",
    "list",
    "logql",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "promql",
    "regex_quote",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
    "zip",
];

/// The tests that there are.
pub(crate) const TESTS: [&str; 30] = [
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "safe",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
];

impl Kind {
    /// The fields that a value has; `None`: only the sender knows.
    fn fields(self) -> Option<&'static [(&'static str, Kind)]> {
        match self {
            Self::Alert => Some(&ALERT),
            Self::Resource => Some(&RESOURCE),
            Self::Loop => Some(&LOOP),
            Self::Alerts | Self::List | Self::Text | Self::Number => Some(&[]),
            Self::Texts | Self::Lists | Self::Values | Self::Any => None,
        }
    }

    /// What one of several is.
    pub(super) fn element(self) -> Self {
        match self {
            Self::Alerts => Self::Alert,
            Self::Texts | Self::List => Self::Text,
            Self::Lists => Self::List,
            _ => Self::Any,
        }
    }

    /// What the field of that name is; else what is wrong. `of` is what has the field, as it is written.
    pub(super) fn field(self, of: &str, name: &str) -> Result<Self, Found> {
        let Some(fields) = self.fields() else {
            return Ok(if matches!(self, Self::Texts | Self::Lists) { self.element() } else { Self::Any });
        };
        if let Some((_, kind)) = fields.iter().find(|(known, _)| *known == name) {
            return Ok(*kind);
        }
        let names: Vec<&str> = fields.iter().map(|(known, _)| *known).collect();
        let help = match (nearest(name, names.iter().copied()), self) {
            (Some(nearest), _) => {
                format!("the nearest known one is {nearest}; there are {}", names.join(", "))
            }
            (None, Self::Alerts) => "it is a list: loop over it, or take one of it".to_owned(),
            (None, _) => "a text or a number has no fields".to_owned(),
        };
        Err((format!("{of} has no field {name}"), help))
    }
}

/// The name that is nearest to one that is not known.
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let folded = name.replace(['_', '-'], "").to_lowercase();
    known.min_by_key(|k| {
        let other = k.replace(['_', '-'], "").to_lowercase();
        strsim::damerau_levenshtein(&other, &folded)
    })
}
