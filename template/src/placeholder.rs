//! What stands between braces: a placeholder, a mistake, or nothing of ours.

use crate::path::{Part, SUFFIXES};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placeholder {
    Items(Part),
    /// Column, from 0.
    Column(usize, Part),
    Number,
    Slot,
    Job,
    Attempt,
    Worker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    Known(Placeholder),
    /// Looks like a column's name, and none has it.
    UnknownName,
    NoSuchColumn,
    /// Not ours: leave it as it is.
    Literal,
}

/// What `{inside}` means for these columns; no columns at all means that the job has no sources.
pub(crate) fn meaning(inside: &str, columns: &[String]) -> Meaning {
    // A column may be called anything ("File Name", "a/b", "job"): its whole name comes first.
    if let Some(column) = position(inside, columns) {
        return Meaning::Known(Placeholder::Column(column, Part::Whole));
    }
    match inside {
        "#" => return Meaning::Known(Placeholder::Number),
        "%" => return Meaning::Known(Placeholder::Slot),
        "job" => return Meaning::Known(Placeholder::Job),
        "attempt" => return Meaning::Known(Placeholder::Attempt),
        "worker" => return Meaning::Known(Placeholder::Worker),
        _ => {}
    }
    if columns.is_empty() {
        return Meaning::Literal;
    }
    let (base, part) = SUFFIXES
        .iter()
        .find_map(|(suffix, part)| inside.strip_suffix(suffix).map(|base| (base, *part)))
        .unwrap_or((inside, Part::Whole));
    if base.is_empty() {
        return Meaning::Known(Placeholder::Items(part));
    }
    if base.bytes().all(|b| b.is_ascii_digit()) {
        return match base.parse::<usize>() {
            Ok(number) if (1..=columns.len()).contains(&number) => {
                Meaning::Known(Placeholder::Column(number - 1, part))
            }
            _ => Meaning::NoSuchColumn,
        };
    }
    match position(base, columns) {
        Some(column) => Meaning::Known(Placeholder::Column(column, part)),
        None if is_identifier(base) => Meaning::UnknownName,
        None => Meaning::Literal,
    }
}

fn position(name: &str, columns: &[String]) -> Option<usize> {
    if name.is_empty() { None } else { columns.iter().position(|column| column == name) }
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
        && !text.ends_with('.')
}

/// The known name nearest to `name`, if one is near enough to be meant.
pub(crate) fn nearest<'a>(name: &str, columns: &'a [String]) -> Option<&'a str> {
    let known = columns.iter().map(String::as_str).filter(|column| !column.is_empty());
    let known = known.chain(["job", "attempt", "worker"]);
    let limit = name.chars().count().div_ceil(3);
    known
        .map(|column| (distance(name, column), column))
        .filter(|(d, _)| *d <= limit)
        .min()
        .map(|(_, column)| column)
}

/// Edits (insert, delete, replace) between two words, case aside.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
