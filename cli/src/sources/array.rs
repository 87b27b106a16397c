//! `--array`: a range of numbers, perhaps with a step and a limit of how many run at once.

use std::str::FromStr;

/// `1-1000:2%50`: 1, 3, 5, ... 999, at most 50 at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Array {
    pub(super) first: u64,
    pub(super) step: u64,
    pub(super) count: u32,
    pub(super) parallel: Option<u32>,
}

impl FromStr for Array {
    type Err = String;

    fn from_str(text: &str) -> Result<Array, String> {
        let number = |part: &str, what: &str| {
            part.parse::<u64>()
                .map_err(|_| format!("{what} {part:?} in {text:?} is not a number (example: 1-1000:2%50)"))
        };
        let (range, parallel) = match text.split_once('%') {
            Some((range, parallel)) => (range, Some(number(parallel, "the limit")?)),
            None => (text, None),
        };
        let (range, step) = match range.split_once(':') {
            Some((range, step)) => (range, number(step, "the step")?),
            None => (range, 1),
        };
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (number(first, "the first")?, number(last, "the last")?);
        if last < first {
            return Err(format!("{text:?} ends before it begins"));
        }
        if step == 0 {
            return Err(format!("the step of {text:?} must be at least 1"));
        }
        let count = ((last - first) / step).checked_add(1).and_then(|count| u32::try_from(count).ok());
        let count = count.ok_or_else(|| format!("{text:?} has more than 4,294,967,295 elements"))?;
        let parallel = match parallel {
            Some(0) => return Err(format!("the limit of {text:?} must be at least 1")),
            Some(limit) => Some(u32::try_from(limit).unwrap_or(u32::MAX)),
            None => None,
        };
        Ok(Array { first, step, count, parallel })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_count_their_elements() {
        let array = |text: &str| text.parse::<Array>().expect(text);
        assert_eq!(array("1-1000:2%50"), Array { first: 1, step: 2, count: 500, parallel: Some(50) });
        assert_eq!(array("7"), Array { first: 7, step: 1, count: 1, parallel: None });
        assert_eq!(array("0-4294967294").count, u32::MAX);
        assert_eq!(array("1-10:4").count, 3);
        let all = "0-18446744073709551615".parse::<Array>();
        assert!(all.is_err_and(|said| said.contains("more than 4,294,967,295")));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "-", "5-1", "1-5:0", "1-5%0", "1-5%", "a-b", "1-", "0-4294967295", "1-5:2:3", "-1-5"]
        {
            assert!(text.parse::<Array>().is_err(), "{text:?} must be refused");
        }
    }
}
