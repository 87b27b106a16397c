//! Text for people: durations, sizes, widths, and bytes that must not reach a terminal raw.
//! What people type is in `quantity.rs`.

use std::borrow::Cow;

use unicode_width::UnicodeWidthChar;

/// How much of a value is repeated in a message about it.
const SHORT: usize = 80;

/// Longer words than this, say of a path, are not told whole.
pub(crate) const LONG: usize = 1_000;

/// `850ms`, `2.1s`, `3m05s`, `2h10m`, `4d03h`.
pub(crate) fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{}.{}s", seconds, ms % 1_000 / 100),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// One unit only, for columns: `12s`, `3m`, `5h`, `2d`.
pub(crate) fn age(ms: u64) -> String {
    match ms / 1_000 {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds @ 3_600..86_400 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// `512 B`, `1.5 KiB`, `3.0 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// UTC as `2026-03-01 14:05:09`; `-` for zero.
pub(crate) fn time(unix_ms: u64) -> String {
    if unix_ms == 0 {
        return "-".to_owned();
    }
    let seconds = unix_ms / 1_000;
    let (year, month, day) = civil(seconds / 86_400);
    let clock = seconds % 86_400;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", clock / 3_600, clock % 3_600 / 60, clock % 60)
}

/// Days since 1970 to a date of the Gregorian calendar: 400-year eras that begin on the first of March.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Control characters, escaped: a job's name must not be able to move the cursor or retitle the window.
/// Also what reverses the direction of text.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\\n"),
            '\t' => safe.push_str("\\t"),
            '\r' => safe.push_str("\\r"),
            c if harmful(c) => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// For a message: visible, and of more than [`SHORT`] characters the beginning, and how many there are.
pub(crate) fn short(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHORT) {
        None => visible(text),
        Some((end, _)) => {
            Cow::Owned(format!("{}... ({} characters)", visible(&text[..end]), text.chars().count()))
        }
    }
}

/// An error as it is told: of a word longer than a screen has lines for, only the beginning.
pub(crate) fn without_long_words(text: &str) -> String {
    let mut told = String::with_capacity(text.len().min(4 * LONG));
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end();
        match word.char_indices().nth(LONG) {
            None => told.push_str(piece),
            Some(_) => {
                told.extend(word.chars().take(SHORT));
                told.push_str(&format!("... ({} characters)", word.chars().count()));
                told.push_str(&piece[word.len()..]);
            }
        }
    }
    told
}

/// Output of tasks for a terminal: line ends and tabs stay, other control bytes are escaped.
/// Colour sequences (`ESC [ digits ; m`) stay as well when `colour` is wanted; every other sequence is shown, not obeyed.
pub(crate) fn harmless(bytes: &[u8], colour: bool) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut safe = String::with_capacity(text.len());
    let mut rest = text.as_ref();
    while let Some(c) = rest.chars().next() {
        if c == '\u{1b}'
            && colour
            && let Some(length) = colour_sequence(rest)
        {
            safe.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        match c {
            '\n' | '\t' | '\r' => safe.push(c),
            c if c.is_control() => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    safe
}

fn colour_sequence(text: &str) -> Option<usize> {
    let body = text.strip_prefix("\u{1b}[")?;
    let parameters = body.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    body[parameters..].starts_with('m').then_some(2 + parameters + 1)
}

/// RFC 4648, with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * n) & 63) as usize];
            text.push(if n <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// How many columns of a terminal the text takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// The text cut to at most `columns`, with an ellipsis in place of what is missing.
pub(crate) fn fit(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let mut short = String::new();
    let mut used = 0;
    for c in text.chars() {
        let next = c.width().unwrap_or(0);
        if used + next + 1 > columns {
            break;
        }
        used += next;
        short.push(c);
    }
    if columns > 0 {
        short.push('…');
    }
    Cow::Owned(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        assert_eq!([duration(850), duration(2_149), duration(185_000)], ["850ms", "2.1s", "3m05s"]);
        assert_eq!([duration(7_800_000), duration(356_400_000)], ["2h10m", "4d03h"]);
        assert_eq!([age(59_999), age(60_000), age(86_400_000)], ["59s", "1m", "1d"]);
        assert_eq!([size(512), size(1_536), size(3 << 30)], ["512 B", "1.5 KiB", "3.0 GiB"]);
    }

    #[test]
    fn dates_are_right() {
        assert_eq!(time(0), "-");
        assert_eq!(time(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(time(1_709_251_199_000), "2024-02-29 23:59:59");
        assert_eq!(time(1_772_372_709_000), "2026-03-01 13:45:09");
        assert_eq!(time(4_102_444_800_000), "2100-01-01 00:00:00");
    }

    #[test]
    fn terminals_are_safe() {
        assert_eq!(visible("a\u{1b}]0;x\u{7}b\n"), "a\\u{1b}]0;x\\u{7}b\\n");
        assert_eq!(visible("plain é"), "plain é");
        let red = b"\x1b[31mred\x1b[0m \x1b[2J\n";
        assert_eq!(harmless(red, true), "\u{1b}[31mred\u{1b}[0m \\u{1b}[2J\n");
        assert_eq!(harmless(red, false), "\\u{1b}[31mred\\u{1b}[0m \\u{1b}[2J\n");
        assert_eq!(harmless(b"\x1b[", true), "\\u{1b}[");
    }

    #[test]
    fn a_message_repeats_no_more_than_a_line() {
        assert_eq!(short("a\tb"), "a\\tb");
        assert_eq!(short(&"é".repeat(80)), "é".repeat(80));
        assert_eq!(short(&"é".repeat(81)), format!("{}... (81 characters)", "é".repeat(80)));
        let plain = "error: a\n  b  c\t";
        assert_eq!(without_long_words(plain), plain);
        let long = format!("error: '{}' is\n long", "é".repeat(1_200));
        assert_eq!(
            without_long_words(&long),
            format!("error: '{}... (1202 characters) is\n long", "é".repeat(79))
        );
    }

    #[test]
    fn base64_pads() {
        assert_eq!(
            ["", "f", "fo", "foo", "foob"].map(|t| base64(t.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
        );
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn widths_count_columns_not_bytes() {
        assert_eq!(width("日本"), 4);
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!(fit("abc", 3), "abc");
        assert_eq!(fit("abc", 0), "");
    }
}
