//! What was said already, so that each thing is said once and not at each try.

use std::collections::VecDeque;

/// So many are remembered: there are few reasons why a coordinator is out of reach.
const REMEMBERED: usize = 16;

/// What was told since the last [`Told::forget`].
#[derive(Debug, Clone)]
pub struct Told<T>(VecDeque<T>);

impl<T> Default for Told<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: PartialEq + Clone> Told<T> {
    /// True if this comes for the first time, or so long after the first time that it was forgotten.
    pub fn is_first(&mut self, what: &T) -> bool {
        if self.0.contains(what) {
            return false;
        }
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(what.clone());
        true
    }

    /// What comes next is told anew. True if anything was told.
    pub fn forget(&mut self) -> bool {
        let any = !self.0.is_empty();
        self.0.clear();
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_told_once_until_all_is_forgotten() {
        let mut told = Told::default();
        let said = ["refused", "no name", "refused", "no name"].map(|reason| told.is_first(&reason));
        assert_eq!(said, [true, true, false, false]);
        assert!(told.forget() && !told.forget());
        assert!(told.is_first(&"refused"));
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut told = Told::default();
        assert!((0..100).all(|n| told.is_first(&n)));
        assert_eq!(told.0.len(), REMEMBERED, "bounded");
        assert!(!told.is_first(&99) && !told.is_first(&98), "the newest are remembered");
        assert!(told.is_first(&0));
    }
}
