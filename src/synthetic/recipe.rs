//! What to generate, and the presets that resemble published data.

use super::spread::Law;
use crate::error::{Error, ErrorKind, Result};

/// What to generate. The default is MovieLens in small: 1,000 users, 2,000 items, 100,000 ratings in half stars.
///
/// Spreads are standard deviations of logits: of where a row lies between the fewest ratings and the most. Biases,
/// factors and noise are in rating units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// Number of users.
    pub users: u32,
    /// Number of items. Those that nobody happens to rate do not appear in the output.
    pub items: u32,
    /// Number of ratings, exactly.
    pub ratings: u64,
    /// Everything random hangs on this.
    pub seed: u64,
    /// 0.5 to 5 in half stars, or else 1 to 5 in whole ones.
    pub half_stars: bool,
    /// The fewest ratings of a user.
    pub least_per_user: u32,
    /// The share of all items that the most active user comes near to, between 0 and 1.
    pub user_limit: f64,
    /// How unequal users are in their number of ratings.
    pub activity_spread: f64,
    /// The fewest ratings of an item, before chance: at least 1.
    pub least_per_item: u32,
    /// The share of all users that the most popular item would come near to if users could rate it more than once. They
    /// cannot, so it gets fewer ratings than that, and the share may exceed 1.
    pub item_limit: f64,
    /// How unequal items are in popularity.
    pub popularity_spread: f64,
    /// How much a user's taste decides what is rated: an item is taken with the chance `1 / (1 + exp(-taste * <p, q>))`.
    pub taste: f64,
    /// Rank of the planted factors.
    pub rank: usize,
    /// The mean rating of all pairs. Those that taste picks lie higher.
    pub mean: f64,
    /// Standard deviation of user biases.
    pub user_bias: f64,
    /// Standard deviation of item biases.
    pub item_bias: f64,
    /// Standard deviation of the product of factors, over all pairs.
    pub factors: f64,
    /// Standard deviation of the noise, before the rating is clipped and rounded.
    pub noise: f64,
}

impl Recipe {
    const SMALL: Recipe = Recipe {
        users: 1_000,
        items: 2_000,
        ratings: 100_000,
        seed: 1,
        half_stars: true,
        least_per_user: 20,
        user_limit: 0.5,
        activity_spread: 1.4,
        least_per_item: 1,
        item_limit: 1.0,
        popularity_spread: 2.0,
        taste: 2.0,
        rank: 16,
        mean: 3.3,
        user_bias: 0.4,
        item_bias: 0.45,
        factors: 0.55,
        noise: 0.78,
    };

    /// Memory that generating takes, in bytes, about: counts, what is planted with the items, and the blocks in flight.
    pub fn memory(&self) -> u64 {
        let of_item = 4 * self.rank as u64 + 32;
        12 * u64::from(self.users) + of_item * u64::from(self.items) + (20 << 20)
    }

    /// The lowest rating, the highest, and the step between.
    pub(super) fn scale(&self) -> (f64, f64, f64) {
        if self.half_stars {
            (0.5, 5.0, 0.5)
        } else {
            (1.0, 5.0, 1.0)
        }
    }

    /// How many ratings users have.
    pub(super) fn by_user(&self) -> Law {
        Law {
            rows: self.users,
            total: self.ratings,
            least: self.least_per_user,
            most: (self.user_limit * f64::from(self.items)).round() as u32,
            spread: self.activity_spread,
        }
    }

    /// How many ratings items would have, if taste did not matter and a pair could be rated twice.
    pub(super) fn by_item(&self) -> Law {
        Law {
            rows: self.items,
            total: self.ratings,
            least: self.least_per_item,
            most: (self.item_limit * f64::from(self.users)).round() as u32,
            spread: self.popularity_spread,
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let bad = |message: String, remedy: &str| {
            Err(Error::new(ErrorKind::BadOption, message).remedy(remedy))
        };
        for (name, value) in [
            ("number of users", self.users as usize),
            ("number of items", self.items as usize),
            ("rank", self.rank),
            ("fewest ratings of an item", self.least_per_item as usize),
        ] {
            if value == 0 {
                return bad(format!("the {name} is 0"), "ask for at least 1");
            }
        }
        for (name, value, limit) in [
            ("limit of users", self.user_limit, 1.0),
            ("limit of items", self.item_limit, 10.0),
            ("spread of activity", self.activity_spread, 10.0),
            ("spread of popularity", self.popularity_spread, 10.0),
            ("weight of taste", self.taste, 100.0),
            ("mean", self.mean, 5.0),
            ("deviation of user biases", self.user_bias, 100.0),
            ("deviation of item biases", self.item_bias, 100.0),
            ("deviation of factors", self.factors, 100.0),
            ("deviation of noise", self.noise, 100.0),
        ] {
            if !(0.0..=limit).contains(&value) {
                let remedy = format!("choose a value between 0 and {limit}");
                return bad(format!("the {name} is {value}"), &remedy);
            }
        }
        for (side, law) in [("users", self.by_user()), ("items", self.by_item())] {
            let Law {
                rows, least, most, ..
            } = law;
            let total = |each: u32| u64::from(rows) * u64::from(each);
            if least > most || !(total(least)..=total(most)).contains(&self.ratings) {
                let ratings = self.ratings;
                return bad(
                    format!(
                        "{ratings} ratings cannot be {least} to {most} for each of {rows} {side}"
                    ),
                    "ask for other numbers of users, items or ratings",
                );
            }
        }
        Ok(())
    }
}

impl Default for Recipe {
    fn default() -> Recipe {
        Recipe::SMALL
    }
}

/// A recipe with a name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preset {
    /// What the command line calls it.
    pub name: &'static str,
    /// One line about it.
    pub summary: &'static str,
    /// What it generates.
    pub recipe: Recipe,
}

/// Every preset, from small to large.
///
/// Numbers of users, items and ratings are those of the data set of that name (Harper and Konstan: The MovieLens
/// datasets, 2015, and GroupLens' pages for the later ones); the spreads are fitted to its numbers of ratings by user and item.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "movielens-100k",
        summary: "943 users, 1,682 items, 100,000 ratings in whole stars",
        recipe: Recipe {
            users: 943,
            items: 1_682,
            ratings: 100_000,
            half_stars: false,
            user_limit: 0.5,
            activity_spread: 1.45,
            item_limit: 1.6,
            popularity_spread: 1.7,
            ..Recipe::SMALL
        },
    },
    Preset {
        name: "movielens-1m",
        summary: "6,040 users, 3,706 items, 1,000,209 ratings in whole stars",
        recipe: Recipe {
            users: 6_040,
            items: 3_706,
            ratings: 1_000_209,
            half_stars: false,
            user_limit: 0.81,
            activity_spread: 1.28,
            item_limit: 1.6,
            popularity_spread: 1.7,
            ..Recipe::SMALL
        },
    },
    Preset {
        name: "movielens-25m",
        summary: "162,541 users, 59,047 items, 25,000,095 ratings in half stars",
        recipe: Recipe {
            users: 162_541,
            items: 59_047,
            ratings: 25_000_095,
            user_limit: 1.0,
            activity_spread: 1.48,
            item_limit: 1.0,
            popularity_spread: 3.2,
            ..Recipe::SMALL
        },
    },
    Preset {
        name: "movielens-26m",
        summary: "260,000 users, 45,000 items, 26,000,000 ratings in half stars",
        recipe: Recipe {
            users: 260_000,
            items: 45_000,
            ratings: 26_000_000,
            user_limit: 1.0,
            activity_spread: 1.48,
            item_limit: 1.0,
            popularity_spread: 3.2,
            ..Recipe::SMALL
        },
    },
    Preset {
        name: "billion",
        summary: "5,000,000 users, 200,000 items, 1,000,000,000 ratings in half stars",
        recipe: Recipe {
            users: 5_000_000,
            items: 200_000,
            ratings: 1_000_000_000,
            user_limit: 0.3,
            activity_spread: 1.48,
            item_limit: 1.0,
            popularity_spread: 3.2,
            ..Recipe::SMALL
        },
    },
];

impl Preset {
    /// The preset of this name.
    ///
    /// # Errors
    /// If there is none; the message lists them.
    pub fn named(name: &str) -> Result<&'static Preset> {
        PRESETS
            .iter()
            .find(|preset| preset.name == name)
            .ok_or_else(|| {
                let names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
                Error::new(
                    ErrorKind::BadOption,
                    format!("no preset is called \"{name}\""),
                )
                .remedy(format!("choose one of {}", names.join(", ")))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_can_be_generated_and_found() {
        for preset in PRESETS {
            preset.recipe.check().unwrap();
            assert_eq!(Preset::named(preset.name).unwrap(), preset);
        }
        let error = Preset::named("netflix").unwrap_err();
        assert!(error.to_string().contains("movielens-25m"), "{error}");
    }

    #[test]
    fn impossible_recipes_are_refused() {
        let recipe = Recipe::default();
        for bad in [
            Recipe { users: 0, ..recipe },
            Recipe { rank: 0, ..recipe },
            Recipe {
                least_per_item: 0,
                ..recipe
            },
            Recipe {
                user_limit: 1.1,
                ..recipe
            },
            Recipe {
                user_limit: 0.009,
                ..recipe
            },
            Recipe {
                least_per_user: 101,
                ..recipe
            },
            Recipe {
                least_per_item: 51,
                ..recipe
            },
            Recipe {
                ratings: 1_000_001,
                ..recipe
            },
            Recipe {
                item_limit: 0.04,
                ..recipe
            },
            Recipe {
                noise: -0.1,
                ..recipe
            },
            Recipe {
                taste: f64::NAN,
                ..recipe
            },
            Recipe {
                popularity_spread: 11.0,
                ..recipe
            },
            Recipe {
                mean: f64::INFINITY,
                ..recipe
            },
        ] {
            assert_eq!(
                bad.check().unwrap_err().kind(),
                ErrorKind::BadOption,
                "{bad:?}"
            );
        }
    }
}
