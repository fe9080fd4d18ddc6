//! Which ratings are held out.

use crate::error::{Error, ErrorKind, Result};
use crate::rng::{Purpose, fraction, mix};
use crate::store::Part;

/// How ratings are held out.
///
/// A fraction is decided for each pair by a hash of seed, user id and item id, so neither the order of lines nor what
/// else is in the file matters. The last ratings are by time within each user, ties by the item's number; every user keeps
/// at least one rating to train on. The validation part is taken from what the test part leaves.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Split {
    /// The share of ratings held out for testing.
    pub test_fraction: f64,
    /// How many of each user's latest ratings are held out for testing.
    pub test_last: usize,
    /// The share of the remaining ratings held out for validation.
    pub validation_fraction: f64,
    /// The seed of the hash.
    pub seed: u64,
}

impl Split {
    /// Checks the shares.
    pub fn check(&self) -> Result<()> {
        for (name, share) in [
            ("test fraction", self.test_fraction),
            ("validation fraction", self.validation_fraction),
        ] {
            if !(0.0..1.0).contains(&share) {
                return Err(Error::new(
                    ErrorKind::BadOption,
                    format!("the {name} is {share}; it must be from 0 up to, not including, 1"),
                ));
            }
        }
        if self.test_fraction > 0.0 && self.test_last > 0 {
            return Err(Error::new(
                ErrorKind::BadOption,
                "a test fraction and the last ratings cannot both be held out",
            ));
        }
        Ok(())
    }

    /// The part of a rating as the fractions decide it, from the keys of its ids.
    pub fn by_fraction(&self, user_key: u64, item_key: u64) -> Part {
        let drawn = |purpose: Purpose| {
            let stream = mix(self.seed, purpose as u64);
            fraction(mix(mix(stream, user_key), item_key))
        };
        if self.test_fraction > 0.0 && drawn(Purpose::TestSplit) < self.test_fraction {
            Part::Test
        } else if self.validation_fraction > 0.0
            && drawn(Purpose::ValidationSplit) < self.validation_fraction
        {
            Part::Validation
        } else {
            Part::Train
        }
    }

    /// How many of a user's ratings are held out as the latest.
    pub fn latest(&self, ratings: usize) -> usize {
        self.test_last.min(ratings.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::key;

    #[test]
    fn fractions_are_met_and_independent() {
        let split = Split {
            test_fraction: 0.2,
            validation_fraction: 0.1,
            seed: 3,
            ..Split::default()
        };
        let n = 100_000_u64;
        let mut count = [0_u32; 3];
        for i in 0..n {
            let part = split.by_fraction(key(&(i / 100).to_le_bytes()), key(&i.to_le_bytes()));
            count[part as usize] += 1;
        }
        // Five standard deviations of a binomial.
        for (part, share) in [(Part::Test, 0.2), (Part::Validation, 0.08)] {
            let expected = share * n as f64;
            let error = (f64::from(count[part as usize]) - expected).abs();
            assert!(
                error < 5.0 * (expected * (1.0 - share)).sqrt(),
                "{part:?}: {count:?}"
            );
        }
        let alone = Split {
            validation_fraction: 0.0,
            ..split
        };
        for i in 0..1000 {
            let test = |s: &Split| s.by_fraction(i, 7) == Part::Test;
            assert_eq!(test(&split), test(&alone), "validation moved the test part");
        }
    }

    #[test]
    fn every_user_keeps_a_rating() {
        let split = Split {
            test_last: 3,
            ..Split::default()
        };
        assert_eq!([0, 1, 2, 4, 9].map(|n| split.latest(n)), [0, 0, 1, 3, 3]);
    }

    #[test]
    fn bad_shares_are_refused() {
        for split in [
            Split {
                test_fraction: 1.0,
                ..Split::default()
            },
            Split {
                validation_fraction: -0.1,
                ..Split::default()
            },
            Split {
                test_fraction: f64::NAN,
                ..Split::default()
            },
            Split {
                test_fraction: 0.1,
                test_last: 1,
                ..Split::default()
            },
        ] {
            assert_eq!(split.check().unwrap_err().kind(), ErrorKind::BadOption);
        }
    }
}
