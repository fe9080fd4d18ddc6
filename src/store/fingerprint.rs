//! A fingerprint of ratings that does not depend on their order.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::rng::mix;

/// 128 bits that tell sets of ratings apart: two sums, each of one hash per rating. It depends on external ids and values
/// alone: neither on the order of the input nor on how rows are numbered, so it may be gathered in parts and merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Fingerprint {
    low: u64,
    high: u64,
}

impl Fingerprint {
    /// Counts a rating in. Ids come as their [`key`](crate::rng::key)s.
    pub fn add(&mut self, user_key: u64, item_key: u64, value: f32) {
        let value = u64::from(value.to_bits());
        // The two halves nest the three numbers in different orders, so that what collides in one does not in the other.
        self.low = self.low.wrapping_add(mix(mix(user_key, item_key), value));
        self.high = self.high.wrapping_add(mix(item_key, mix(value, user_key)));
    }

    /// Takes out a rating that was counted in.
    pub fn remove(&mut self, user_key: u64, item_key: u64, value: f32) {
        let mut alone = Fingerprint::default();
        alone.add(user_key, item_key, value);
        self.low = self.low.wrapping_sub(alone.low);
        self.high = self.high.wrapping_sub(alone.high);
    }

    /// Counts in all that another fingerprint has counted.
    pub fn merge(&mut self, other: Fingerprint) {
        self.low = self.low.wrapping_add(other.low);
        self.high = self.high.wrapping_add(other.high);
    }
}

/// As 32 hexadecimal digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.high, self.low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn of(ratings: &[(u64, u64, f32)]) -> Fingerprint {
        let mut fingerprint = Fingerprint::default();
        for &(user, item, value) in ratings {
            fingerprint.add(user, item, value);
        }
        fingerprint
    }

    #[test]
    fn order_does_not_matter_and_everything_else_does() {
        let whole = of(&[(1, 2, 3.0), (4, 5, 1.0), (1, 5, 2.0)]);
        assert_eq!(of(&[(1, 5, 2.0), (1, 2, 3.0), (4, 5, 1.0)]), whole);
        let mut less = of(&[(1, 5, 2.0), (8, 9, 1.0), (4, 5, 1.0), (1, 2, 3.0)]);
        less.remove(8, 9, 1.0);
        assert_eq!(less, whole);
        let mut merged = of(&[(1, 5, 2.0)]);
        merged.merge(of(&[(4, 5, 1.0), (1, 2, 3.0)]));
        assert_eq!(merged, whole);
        let others = [
            of(&[(2, 1, 3.0), (4, 5, 1.0), (1, 5, 2.0)]),
            of(&[(1, 2, 3.0), (4, 5, 2.0), (1, 5, 1.0)]),
            of(&[(1, 2, 3.0), (4, 5, 1.0)]),
            of(&[(1, 2, 3.0), (4, 5, 1.0), (1, 5, 2.0), (1, 5, 2.0)]),
            whole,
        ];
        assert_eq!(others.iter().collect::<HashSet<_>>().len(), others.len());
        assert_eq!(whole.to_string().len(), 32);
    }
}
