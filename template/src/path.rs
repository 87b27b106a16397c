//! The path suffixes: `.` `/` `//` `/.`. Values are bytes, separated by `/` as on every system taskq runs on.

/// Which part of a value is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    /// `.`: without the extension. A leading dot (`.bashrc`) begins a name, not an extension.
    Stem,
    /// `/`: what follows the last slash; trailing slashes do not count.
    Name,
    /// `//`: what precedes the last slash; `.` if there is none.
    Folder,
    /// `/.`: the name without its extension.
    NameStem,
}

/// Longest first, so that `/.` is not read as `/` and a dot.
pub(crate) const SUFFIXES: [(&str, Part); 4] =
    [("/.", Part::NameStem), ("//", Part::Folder), ("/", Part::Name), (".", Part::Stem)];

impl Part {
    pub(crate) fn of(self, value: &[u8]) -> &[u8] {
        match self {
            Part::Whole => value,
            Part::Stem => stem(value),
            Part::Name => name(value),
            Part::Folder => folder(value),
            Part::NameStem => stem(name(value)),
        }
    }
}

fn stem(value: &[u8]) -> &[u8] {
    let name = value.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
    match value[name..].iter().rposition(|b| *b == b'.') {
        Some(dot) if dot > 0 && &value[name..] != b".." => &value[..name + dot],
        _ => value,
    }
}

fn name(value: &[u8]) -> &[u8] {
    let trimmed = untrail(value);
    trimmed
        .iter()
        .rposition(|b| *b == b'/')
        .map_or(trimmed, |slash| if trimmed.len() == 1 { trimmed } else { &trimmed[slash + 1..] })
}

fn folder(value: &[u8]) -> &[u8] {
    let trimmed = untrail(value);
    match trimmed.iter().rposition(|b| *b == b'/') {
        Some(slash) => untrail(&trimmed[..slash.max(1)]),
        None => b".",
    }
}

/// Without trailing slashes, but never empty if it was not.
fn untrail(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|b| *b != b'/').map_or(value.len().min(1), |last| last + 1);
    &value[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_paths() {
        let cases: [(&str, [&str; 4]); 11] = [
            // value, [stem, name, folder, name stem]
            ("a/b.tar.gz", ["a/b.tar", "b.tar.gz", "a", "b.tar"]),
            ("file", ["file", "file", ".", "file"]),
            (".bashrc", [".bashrc", ".bashrc", ".", ".bashrc"]),
            ("a.d/file", ["a.d/file", "file", "a.d", "file"]),
            ("a/b/", ["a/b/", "b", "a", "b"]),
            ("/etc", ["/etc", "etc", "/", "etc"]),
            ("/", ["/", "/", "/", "/"]),
            ("//x", ["//x", "x", "/", "x"]),
            ("a//b.c", ["a//b", "b.c", "a", "b"]),
            ("..", ["..", "..", ".", ".."]),
            ("", ["", "", ".", ""]),
        ];
        for (value, wanted) in cases {
            let parts =
                [Part::Stem, Part::Name, Part::Folder, Part::NameStem].map(|part| part.of(value.as_bytes()));
            assert_eq!(parts, wanted.map(str::as_bytes), "parts of {value:?}");
        }
    }
}
