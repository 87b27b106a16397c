//! Random choices that can be repeated: the seed is printed, and `TASKQ_TEST_SEED` sets it.

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::time::Duration;

/// A source of random choices with a printed seed.
pub struct Seed {
    random: StdRng,
}

impl Seed {
    /// Takes the seed from `TASKQ_TEST_SEED`, else a fresh one, and prints how to repeat it.
    pub fn new(test: &str) -> Self {
        let asked = std::env::var("TASKQ_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed: u64 = asked.unwrap_or_else(rand::random);
        println!("{test}: random choices of seed {seed}; repeat them with TASKQ_TEST_SEED={seed}");
        Self { random: StdRng::seed_from_u64(seed) }
    }

    /// A source of its own for another thread, decided by this one.
    pub fn fork(&mut self) -> Self {
        Self { random: StdRng::seed_from_u64(self.random.next_u64()) }
    }

    /// A number in `low..=high`.
    pub fn number(&mut self, low: u64, high: u64) -> u64 {
        self.random.random_range(low..=high)
    }

    /// A stretch of time in `low..=high` milliseconds.
    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.number(low, high))
    }

    /// True once in `of` times.
    pub fn once_in(&mut self, of: u64) -> bool {
        self.number(1, of) == 1
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, several: &'a [T]) -> &'a T {
        &several[self.random.random_range(0..several.len())]
    }

    /// Random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.random.fill_bytes(&mut bytes);
        bytes
    }
}
