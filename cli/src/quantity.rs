//! What people type for amounts: durations, sizes, backoffs, `key=value`, lists of exit codes.
//! Each parser returns the checked value or a sentence for clap to print.

use std::time::Duration;

/// The longest duration that is understood: about 100 years, so that sums of durations never overflow.
const LONGEST_MS: u64 = 100 * 365 * 86_400_000;

/// `500ms`, `1.5s`, `2m`, `1h30m`, `7d`; a bare number counts seconds, as in timeout(1).
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if text.is_empty() {
        return Err("a duration is missing (examples: 500ms, 90s, 1h30m)".to_owned());
    }
    let mut total_ms = 0.0_f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number
            .parse()
            .map_err(|_| format!("{text:?} is not a duration (examples: 500ms, 90s, 1h30m)"))?;
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        total_ms += number * unit_ms(unit, text)?;
        rest = tail;
    }
    if total_ms > LONGEST_MS as f64 {
        return Err(format!("{text:?} is longer than 100 years"));
    }
    Ok(Duration::from_millis(total_ms.round() as u64))
}

fn unit_ms(unit: &str, text: &str) -> Result<f64, String> {
    match unit {
        "ms" => Ok(1.0),
        "" | "s" => Ok(1_000.0),
        "m" | "min" => Ok(60_000.0),
        "h" => Ok(3_600_000.0),
        "d" => Ok(86_400_000.0),
        "w" => Ok(7.0 * 86_400_000.0),
        other => Err(format!("unknown unit {other:?} in {text:?} (known: ms, s, m, h, d, w)")),
    }
}

/// `4096`, `64K`, `10MiB`, `1G`: K, M and G are powers of 1024. In bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 =
        number.parse().map_err(|_| format!("{text:?} is not a size (examples: 4096, 64K, 10M)"))?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "k" | "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        other => return Err(format!("unknown unit {other:?} in {text:?} (known: K, M, G)")),
    };
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is too large"))
}

/// `2`, `1.5`, `0.25`: in thousandths of a core.
pub(crate) fn cores(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is not a number of cores (examples: 0.5, 2); the least is 0.01");
    let cores: f64 = text.parse().map_err(|_| wrong())?;
    let milli = (cores * 1_000.0).round();
    if (10.0..=4_096_000.0).contains(&milli) { Ok(milli as u32) } else { Err(wrong()) }
}

/// The pauses between attempts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) most: Duration,
    pub(crate) multiplier: f64,
}

/// `exp:1s..5m` doubles from the first pause up to the last; `fixed:10s` always pauses the same.
pub(crate) fn backoff(text: &str) -> Result<Backoff, String> {
    let (kind, amounts) = text
        .split_once(':')
        .ok_or_else(|| format!("{text:?} is no backoff (examples: exp:1s..5m, fixed:10s)"))?;
    match kind {
        "fixed" => {
            let pause = duration(amounts)?;
            Ok(Backoff { first: pause, most: pause, multiplier: 1.0 })
        }
        "exp" => {
            let (first, most) = amounts.split_once("..").unwrap_or((amounts, "5m"));
            let (first, most) = (duration(first)?, duration(most)?);
            if most < first {
                return Err(format!("{text:?} ends before it begins"));
            }
            Ok(Backoff { first, most, multiplier: 2.0 })
        }
        other => Err(format!("unknown backoff {other:?} (known: exp:FIRST..MOST, fixed:PAUSE)")),
    }
}

/// `key=value`; the key is not empty.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) | None => Err(format!("{text:?} is not KEY=VALUE")),
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
    }
}

/// `name=count`, as in `gpu=1`; a bare name counts 1.
pub(crate) fn resource(text: &str) -> Result<(String, u64), String> {
    let (name, count) = text.split_once('=').unwrap_or((text, "1"));
    if name.is_empty() {
        return Err(format!("{text:?} is not NAME=COUNT"));
    }
    let count = count.parse().map_err(|_| format!("{count:?} in {text:?} is not a whole number"))?;
    Ok((name.to_owned(), count))
}

/// `KEY=VALUE`, or `KEY` for this shell's value of it.
pub(crate) fn env(text: &str) -> Result<(String, Option<String>), String> {
    match text.split_once('=') {
        Some(("", _)) => Err(format!("{text:?} is not KEY or KEY=VALUE")),
        Some((key, value)) => Ok((key.to_owned(), Some(value.to_owned()))),
        None if text.is_empty() => Err("an empty name is not an environment variable".to_owned()),
        None => Ok((text.to_owned(), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_what_people_type() {
        for (text, ms) in [
            ("500ms", 500),
            ("90", 90_000),
            ("1.5s", 1_500),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1s", "1y", "1..5s", "5 s", "99999999w"] {
            assert!(duration(text).is_err(), "{text:?} must be refused");
        }
    }

    #[test]
    fn sizes_count_in_1024s() {
        assert_eq!(size("64K"), Ok(65_536));
        assert_eq!(size("10MiB"), Ok(10 << 20));
        assert_eq!(size("7"), Ok(7));
        for text in ["", "K", "1.5M", "1T", "99999999999G"] {
            assert!(size(text).is_err(), "{text:?} must be refused");
        }
    }

    #[test]
    fn backoffs_double_or_stay() {
        let seconds = Duration::from_secs;
        assert_eq!(
            backoff("exp:1s..5m"),
            Ok(Backoff { first: seconds(1), most: seconds(300), multiplier: 2.0 })
        );
        assert_eq!(
            backoff("fixed:10s"),
            Ok(Backoff { first: seconds(10), most: seconds(10), multiplier: 1.0 })
        );
        for text in ["1s", "exp:5m..1s", "lin:1s", "exp:"] {
            assert!(backoff(text).is_err(), "{text:?} must be refused");
        }
    }

    #[test]
    fn pairs_need_a_key() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(pair("=b").is_err() && pair("a").is_err());
        assert_eq!(resource("gpu=2"), Ok(("gpu".into(), 2)));
        assert_eq!(resource("gpu"), Ok(("gpu".into(), 1)));
        assert!(resource("gpu=x").is_err());
        assert_eq!(env("HOME"), Ok(("HOME".into(), None)));
    }
}
