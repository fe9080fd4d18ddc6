//! Which ratings are held out.

use crate::error::{Error, ErrorKind, Result};
use crate::rng::{Purpose, fraction, mix};
use crate::store::Part;

/// Which ratings are held out for testing.
///
/// What is drawn is drawn by a hash of seed, user id and item id, so neither the order of lines nor what else is in the
/// file matters. Every user keeps at least one rating but by [`Fraction`](HoldOut::Fraction) and [`Fold`](HoldOut::Fold),
/// which look at each pair alone.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum HoldOut {
    /// None.
    #[default]
    Nothing,
    /// This share of all ratings, each drawn for itself.
    Fraction(f64),
    /// So many of each user's latest ratings, ties by the item's number.
    Last(usize),
    /// So many of each user's ratings, drawn.
    Each(usize),
    /// One of so many parts of all ratings that are about alike and share none; the first is number 0.
    Fold {
        /// Which.
        fold: usize,
        /// Of how many.
        folds: usize,
    },
    /// This share of the users, whole: of each one's ratings some are given, for the user to be folded in by, and the rest
    /// are to be found (strong generalisation: Marlin, Collaborative filtering: a machine learning perspective, 2004).
    Users {
        /// The share of users.
        share: f64,
        /// The share of such a user's ratings that is given, at least one.
        given: f64,
    },
}

/// How ratings are held out. The validation part is taken from what the test part leaves.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Split {
    /// What is held out for testing.
    pub test: HoldOut,
    /// The share of the remaining ratings held out for validation.
    pub validation_fraction: f64,
    /// The seed of the hash.
    pub seed: u64,
}

/// Where a rating goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goes {
    /// Into this part of the store.
    Into(Part),
    /// To those who fold its user in.
    FoldIn,
}

impl Split {
    /// Checks the shares.
    ///
    /// # Errors
    /// If a share is not one, or there is no such fold.
    pub fn check(&self) -> Result<()> {
        let share = |name: &str, share: f64| match (0.0..1.0).contains(&share) {
            true => Ok(()),
            false => Err(bad(format!(
                "the {name} is {share}; it must be from 0 up to, not including, 1"
            ))),
        };
        share("validation fraction", self.validation_fraction)?;
        let nothing = match self.test {
            HoldOut::Users { share, .. } => share == 0.0,
            HoldOut::Nothing => false,
            _ => !self.tests(),
        };
        if nothing {
            return Err(
                bad("0 are to be held out for testing, which is nothing".into())
                    .remedy("give more than 0, or leave the option out"),
            );
        }
        match self.test {
            HoldOut::Fraction(fraction) => share("test fraction", fraction),
            HoldOut::Users {
                share: users,
                given,
            } => {
                share("share of users", users)?;
                share("share of their ratings that is given", given)
            }
            HoldOut::Fold { folds, .. } if folds < 2 => {
                Err(bad(format!("there must be at least 2 folds, not {folds}")))
            }
            HoldOut::Fold { fold, folds } if fold >= folds => {
                let last = folds - 1;
                Err(bad(format!(
                    "there is no fold {fold} of {folds}: they are numbered from 0 to {last}"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Whether there is a test part.
    pub fn tests(&self) -> bool {
        !matches!(
            self.test,
            HoldOut::Nothing | HoldOut::Fraction(0.0) | HoldOut::Last(0) | HoldOut::Each(0)
        )
    }

    /// Whether times decide.
    pub fn needs_times(&self) -> bool {
        matches!(self.test, HoldOut::Last(1..))
    }

    /// The options that say so, by their names on the command line.
    pub fn options(&self) -> Vec<(String, String)> {
        let mut options: Vec<(&str, String)> = Vec::new();
        match self.test {
            _ if !self.tests() => {}
            HoldOut::Nothing => {}
            HoldOut::Fraction(fraction) => options.push(("test-fraction", fraction.to_string())),
            HoldOut::Last(count) => options.push(("test-last", count.to_string())),
            HoldOut::Each(count) => options.push(("test-each", count.to_string())),
            HoldOut::Fold { fold, folds } => {
                options.extend([("fold", fold.to_string()), ("folds", folds.to_string())])
            }
            HoldOut::Users { share, given } => options.extend([
                ("test-users", share.to_string()),
                ("given", given.to_string()),
            ]),
        }
        if self.validation_fraction > 0.0 {
            options.push(("validation-fraction", self.validation_fraction.to_string()));
        }
        options.push(("seed", self.seed.to_string()));
        let owned = |(name, value): (&str, String)| (name.to_owned(), value);
        options.into_iter().map(owned).collect()
    }

    /// What is drawn for a user's pairs with items, by the keys of their ids: uniform in [0, 1).
    fn drawn(&self, purpose: Purpose, user_key: u64) -> impl Fn(u64) -> f64 {
        let user = mix(mix(self.seed, purpose as u64), user_key);
        move |item_key| fraction(mix(user, item_key))
    }

    /// Where a user's ratings go, from the key of the user's id, and the key of the item and the time of each rating.
    pub fn of_user<T: Copy + Ord>(&self, user_key: u64, rated: &[(u64, T)]) -> Vec<Goes> {
        let of_pair = self.of_pairs(user_key);
        let parts = rated.iter().map(|&(item_key, _)| of_pair(item_key));
        let mut goes: Vec<Goes> = parts.map(Goes::Into).collect();
        let by_draw = || {
            let drawn = self.drawn(Purpose::TestSplit, user_key);
            let draw = |&at: &usize| drawn(rated[at].0);
            let mut order: Vec<usize> = (0..rated.len()).collect();
            order.sort_by(|a, b| draw(a).total_cmp(&draw(b)));
            order
        };
        let (order, held_out) = match self.test {
            HoldOut::Last(count) => {
                let mut order: Vec<usize> = (0..rated.len()).collect();
                order.sort_by_key(|&at| std::cmp::Reverse((rated[at].1, at)));
                (order, count)
            }
            HoldOut::Each(count) => (by_draw(), count),
            HoldOut::Users { share, given } => {
                let stream = mix(self.seed, Purpose::TestUsers as u64);
                if fraction(mix(stream, user_key)) >= share {
                    return goes;
                }
                goes.fill(Goes::FoldIn);
                let found = (rated.len() as f64 * (1.0 - given)).round();
                (by_draw(), found as usize)
            }
            HoldOut::Nothing | HoldOut::Fraction(_) | HoldOut::Fold { .. } => return goes,
        };
        let kept = rated.len().saturating_sub(1);
        for &at in &order[..held_out.min(kept)] {
            goes[at] = Goes::Into(Part::Test);
        }
        goes
    }

    /// The parts of a user's ratings as far as they are decided for each pair alone, by the keys of items.
    fn of_pairs(&self, user_key: u64) -> impl Fn(u64) -> Part {
        let tested = match self.test {
            HoldOut::Fraction(fraction) => 0.0..fraction,
            HoldOut::Fold { fold, folds } => {
                let bound = |fold: usize| fold as f64 / folds as f64;
                bound(fold)..bound(fold + 1)
            }
            _ => 0.0..0.0,
        };
        let validated = 0.0..self.validation_fraction;
        let for_test = self.drawn(Purpose::TestSplit, user_key);
        let for_validation = self.drawn(Purpose::ValidationSplit, user_key);
        move |item_key| {
            if !tested.is_empty() && tested.contains(&for_test(item_key)) {
                Part::Test
            } else if !validated.is_empty() && validated.contains(&for_validation(item_key)) {
                Part::Validation
            } else {
                Part::Train
            }
        }
    }
}

fn bad(what: String) -> Error {
    Error::new(ErrorKind::BadOption, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::key;

    fn parts(split: &Split, user: u64, items: u64) -> Vec<Goes> {
        let rated: Vec<_> = (0..items)
            .map(|item| (key(&item.to_le_bytes()), ()))
            .collect();
        split.of_user(key(&user.to_le_bytes()), &rated)
    }

    fn count(goes: &[Goes], what: Goes) -> usize {
        goes.iter().filter(|&&x| x == what).count()
    }

    const TEST: Goes = Goes::Into(Part::Test);

    #[test]
    fn fractions_are_met_and_independent() {
        let split = Split {
            test: HoldOut::Fraction(0.2),
            validation_fraction: 0.1,
            seed: 3,
        };
        let (users, items) = (1000, 100);
        let goes: Vec<Goes> = (0..users).flat_map(|u| parts(&split, u, items)).collect();
        // Five standard deviations of a binomial.
        for (part, share) in [(Part::Test, 0.2), (Part::Validation, 0.08)] {
            let expected = share * (users * items) as f64;
            let error = (count(&goes, Goes::Into(part)) as f64 - expected).abs();
            assert!(error < 5.0 * (expected * (1.0 - share)).sqrt(), "{part:?}");
        }
        let alone = Split {
            validation_fraction: 0.0,
            ..split
        };
        for user in 0..30 {
            let test = |split| parts(split, user, 30).iter().map(|&x| x == TEST).collect();
            let (both, one): (Vec<bool>, Vec<bool>) = (test(&split), test(&alone));
            assert_eq!(both, one, "validation moved the test part");
        }
    }

    #[test]
    fn every_user_keeps_a_rating() {
        for test in [HoldOut::Last(3), HoldOut::Each(3)] {
            let split = Split {
                test,
                ..Split::default()
            };
            let held_out = [0, 1, 2, 4, 9].map(|n| count(&parts(&split, 1, n), TEST));
            assert_eq!(held_out, [0, 0, 1, 3, 3]);
        }
    }

    #[test]
    fn every_rating_is_in_one_fold() {
        let folds = 5;
        let of_fold = |fold| {
            let split = Split {
                test: HoldOut::Fold { fold, folds },
                ..Split::default()
            };
            parts(&split, 7, 200)
        };
        let all: Vec<Vec<Goes>> = (0..folds).map(of_fold).collect();
        for item in 0..200 {
            let held_out = all.iter().filter(|goes| goes[item] == TEST).count();
            assert_eq!(held_out, 1);
        }
        let fifth = Split {
            test: HoldOut::Fraction(0.2),
            ..Split::default()
        };
        assert_eq!(parts(&fifth, 7, 200), all[0]);
    }

    #[test]
    fn users_are_held_out_whole_and_given_in_part() {
        let split = Split {
            test: HoldOut::Users {
                share: 0.3,
                given: 0.8,
            },
            validation_fraction: 0.1,
            seed: 1,
        };
        let mut whole = 0;
        for user in 0..1000 {
            let goes = parts(&split, user, 10);
            match count(&goes, Goes::FoldIn) {
                0 => assert_eq!(count(&goes, TEST), 0),
                given => {
                    assert_eq!((given, count(&goes, TEST)), (8, 2));
                    whole += 1;
                }
            }
        }
        // Five standard deviations of a binomial.
        assert!(
            (f64::from(whole) - 300.0).abs() < 5.0 * 210_f64.sqrt(),
            "{whole}"
        );
    }

    #[test]
    fn bad_shares_are_refused() {
        let test = |test| Split {
            test,
            ..Split::default()
        };
        for split in [
            test(HoldOut::Fraction(1.0)),
            test(HoldOut::Fraction(f64::NAN)),
            test(HoldOut::Fold { fold: 2, folds: 2 }),
            test(HoldOut::Fold { fold: 0, folds: 1 }),
            test(HoldOut::Users {
                share: 1.0,
                given: 0.5,
            }),
            Split {
                validation_fraction: -0.1,
                ..Split::default()
            },
        ] {
            assert_eq!(split.check().unwrap_err().kind(), ErrorKind::BadOption);
        }
    }
}
