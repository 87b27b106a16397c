//! Splits a command typed as one string into arguments, the way a shell reads quotes, but without a shell:
//! nothing is expanded. What only a shell could do is refused with the remedy.

use thiserror::Error;

/// Why a string is not a command. Positions count bytes from 0.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum Error {
    #[error("the quote {quote} at position {position} of the command is never closed")]
    Open { quote: char, position: usize },
    #[error("the command ends with a lone backslash")]
    Backslash,
    #[error(
        "the command has an unquoted `{byte}` at position {position}, which only a shell understands; \
         add -c to run it with sh, or quote it"
    )]
    NeedsShell { byte: char, position: usize },
}

/// `gzip -k9 'my file'` becomes `gzip`, `-k9`, `my file`.
pub(crate) fn split(text: &str) -> Result<Vec<String>, Error> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.char_indices();
    while let Some((position, c)) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' | '"' => quoted(&mut chars, c, position, word.get_or_insert_default())?,
            '\\' => {
                let (_, escaped) = chars.next().ok_or(Error::Backslash)?;
                word.get_or_insert_default().push(escaped);
            }
            '|' | '&' | ';' | '<' | '>' | '$' | '`' => return Err(Error::NeedsShell { byte: c, position }),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(
    chars: &mut std::str::CharIndices,
    quote: char,
    position: usize,
    word: &mut String,
) -> Result<(), Error> {
    while let Some((_, c)) = chars.next() {
        match c {
            _ if c == quote => return Ok(()),
            '\\' if quote == '"' => match chars.next() {
                Some((_, escaped @ ('"' | '\\' | '$' | '`'))) => word.push(escaped),
                Some((_, other)) => word.extend(['\\', other]),
                None => break,
            },
            other => word.push(other),
        }
    }
    Err(Error::Open { quote, position })
}

/// The reverse, for people and for the job log: an argument as it would be typed in a shell.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:=@_".contains(c) || !c.is_ascii();
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A whole command as one would type it.
pub(crate) fn join<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_like_a_shell_without_expanding() {
        let split = |text| split(text).expect(text);
        assert_eq!(split("gzip -k9  {}"), ["gzip", "-k9", "{}"]);
        assert_eq!(split(r#"echo 'a b' "c \" d" e\ f"#), ["echo", "a b", "c \" d", "e f"]);
        assert_eq!(split(r#"x '' a"b"c"#), ["x", "", "abc"]);
        assert_eq!(split("ls *.txt ~"), ["ls", "*.txt", "~"]);
        assert!(split("  ").is_empty());
    }

    #[test]
    fn refuses_what_needs_a_shell() {
        assert_eq!(split("a | b"), Err(Error::NeedsShell { byte: '|', position: 2 }));
        assert_eq!(split("a 'b"), Err(Error::Open { quote: '\'', position: 2 }));
        assert_eq!(split("a \\"), Err(Error::Backslash));
        assert!(split("a '|' \\;").is_ok());
    }

    #[test]
    fn quotes_survive_a_round_trip() {
        for word in ["", "a b", "it's", "$HOME", "a\nb", "plain-1.txt", "{}"] {
            assert_eq!(split(&quote(word)), Ok(vec![word.to_owned()]), "{word:?}");
        }
    }
}
