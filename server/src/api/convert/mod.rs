//! Between the wire and the core: the only place that names both `pb` and the core's types at length.
//! `submit` and `report` parse what comes in, `view` shows what goes out. Total: no input makes them panic.

pub mod call;
mod limits;
pub mod report;
pub mod submit;
pub mod view;

use roaring::RoaringBitmap;
use taskq_proto::v1 as pb;

use crate::api::status::Invalid;

/// Spans as a set; `None` where there are none.
///
/// # Errors
/// If a span is empty or goes beyond 2^32.
pub fn indices(spans: &[pb::Span]) -> Result<Option<RoaringBitmap>, Invalid> {
    let mut set = RoaringBitmap::new();
    for span in spans {
        let end = span.first.checked_add(span.count).filter(|_| span.count > 0);
        let end =
            end.ok_or_else(|| Invalid::new("indices", "a span must be 1 or more indices below 2^32"))?;
        set.insert_range(span.first..end);
    }
    Ok((!set.is_empty()).then_some(set))
}

/// A set as spans.
#[must_use]
pub fn spans(set: &RoaringBitmap) -> Vec<pb::Span> {
    let mut spans: Vec<pb::Span> = Vec::new();
    for index in set {
        match spans.last_mut() {
            Some(last) if last.first + last.count == index => last.count += 1,
            _ => spans.push(pb::Span { first: index, count: 1 }),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sets_are_two_ways_to_say_the_same() {
        let said = [pb::Span { first: 1, count: 2 }, pb::Span { first: 9, count: 1 }];
        let set = indices(&said).unwrap().unwrap();
        assert_eq!(set.iter().collect::<Vec<_>>(), [1, 2, 9]);
        assert_eq!(spans(&set), said);
        assert_eq!(indices(&[]).unwrap(), None);
        assert!(indices(&[pb::Span { first: u32::MAX, count: 2 }]).is_err());
        assert!(indices(&[pb::Span { first: 1, count: 0 }]).is_err());
    }
}
