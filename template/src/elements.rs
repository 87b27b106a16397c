//! Which row of each source an element of a job takes: the arithmetic that submitting, storing and showing
//! elements share. Knows lengths only, no values.

/// The most elements that a job can have: indices are 32 bits wide.
pub const MOST: u64 = u32::MAX as u64;

/// How the sources of a job are combined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    lens: Vec<u64>,
    zip: bool,
    total: u32,
}

/// Sources that cannot be combined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More elements than [`MOST`].
    #[error("the sources make more than {MOST} elements; split them over several jobs")]
    TooMany,
    /// Side by side, all sources need the same length.
    #[error(
        "sources to be zipped must be equally long, but source {number} has {len} elements and the first {first}"
    )]
    Unequal {
        /// Which source, from 1.
        number: usize,
        /// Its length.
        len: u64,
        /// The length of the first source.
        first: u64,
    },
}

impl Plan {
    /// `lens` are the lengths of the sources. No source is one element without values.
    ///
    /// # Errors
    /// Too many elements, or unequal lengths to be zipped.
    pub fn new(lens: &[u64], zip: bool) -> Result<Self, Error> {
        let total = if zip && !lens.is_empty() {
            let first = lens[0];
            if let Some(other) = lens.iter().position(|len| *len != first) {
                return Err(Error::Unequal { number: other + 1, len: lens[other], first });
            }
            first
        } else if lens.contains(&0) {
            0
        } else {
            lens.iter().try_fold(1_u64, |total, len| total.checked_mul(*len)).ok_or(Error::TooMany)?
        };
        let total = u32::try_from(total).map_err(|_| Error::TooMany)?;
        Ok(Self { lens: lens.to_vec(), zip, total })
    }

    /// How many elements there are.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.total
    }

    /// How many sources there are.
    #[must_use]
    pub fn sources(&self) -> usize {
        self.lens.len()
    }

    /// The row of each source that element `i` takes, first source first. The last source varies fastest.
    ///
    /// # Panics
    /// If there is no element `i`.
    pub fn rows(&self, i: u32) -> impl Iterator<Item = u64> + '_ {
        assert!(i < self.total, "element {i} of {}", self.total);
        let mut block = u64::from(self.total);
        self.lens.iter().map(move |len| {
            if self.zip {
                return u64::from(i);
            }
            block /= len;
            u64::from(i) / block % len
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn product_counts_like_an_odometer() {
        let plan = Plan::new(&[2, 3], false).unwrap();
        let rows: Vec<Vec<u64>> = (0..plan.total()).map(|i| plan.rows(i).collect()).collect();
        assert_eq!(rows, [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]);
    }

    #[test]
    fn zip_walks_side_by_side() {
        let plan = Plan::new(&[3, 3], true).unwrap();
        assert_eq!(plan.rows(2).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(Plan::new(&[3, 2], true), Err(Error::Unequal { number: 2, len: 2, first: 3 }));
    }

    #[test]
    fn ends_of_the_range() {
        assert_eq!(Plan::new(&[], false).unwrap().total(), 1);
        assert_eq!(Plan::new(&[], true).unwrap().total(), 1);
        assert_eq!(Plan::new(&[5, 0, u64::MAX], false).unwrap().total(), 0);
        assert_eq!(Plan::new(&[MOST], false).unwrap().total(), u32::MAX);
        assert_eq!(Plan::new(&[MOST + 1], false), Err(Error::TooMany));
        assert_eq!(Plan::new(&[1 << 16, 1 << 16], false), Err(Error::TooMany));
        assert_eq!(Plan::new(&[u64::MAX, u64::MAX], false), Err(Error::TooMany));
        let wide = Plan::new(&[MOST], false).unwrap();
        assert_eq!(wide.rows(u32::MAX - 1).collect::<Vec<_>>(), [MOST - 1]);
    }
}
