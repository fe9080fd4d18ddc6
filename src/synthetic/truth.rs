//! What is planted: biases and factors, and what of it a user comes to rate.

use super::alias::Alias;
use super::recipe::Recipe;
use super::spread;
use crate::matrix::Factors;
use crate::rng::{Purpose, Stream};

/// Popularity, biases and factors of all items. Those of a user are made when they are asked for.
#[derive(Debug, Clone)]
pub(super) struct Truth {
    pub(super) recipe: Recipe,
    pub(super) popularity: Vec<u32>,
    alias: Alias,
    items: Factors,
}

/// What is planted about one user, and the stream that goes on from there.
pub(super) struct User {
    bias: f64,
    factors: Vec<f32>,
    pub(super) stream: Stream,
}

/// An item that a user rates, and the product of their factors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pick {
    pub(super) item: u32,
    pub(super) product: f32,
}

/// Room to pick in, reused from user to user.
pub(super) struct Picker {
    /// One bit an item, all zero between users.
    picked: Vec<u64>,
    picks: Vec<Pick>,
    keyed: Vec<(f64, Pick)>,
}

impl Picker {
    pub(super) fn new(items: u32) -> Picker {
        Picker {
            picked: vec![0; items.div_ceil(64) as usize],
            picks: Vec::new(),
            keyed: Vec::new(),
        }
    }
}

impl Truth {
    /// Plants what a checked recipe asks for.
    pub(super) fn new(recipe: Recipe) -> Truth {
        let mut popularity = recipe.by_item().quantiles();
        spread::shuffle(&mut popularity, recipe.seed, Purpose::SyntheticItems);
        let mut items = Factors::zeros(recipe.items as usize, recipe.rank, true);
        let deviation = factor_deviation(&recipe);
        for item in 0..recipe.items as usize {
            let mut stream = Stream::new(recipe.seed, Purpose::SyntheticItems, 0, item as u64);
            items.biases_mut()[item] = (recipe.item_bias * stream.normal()) as f32;
            for factor in items.row_mut(item) {
                *factor = (deviation * stream.normal()) as f32;
            }
        }
        Truth {
            alias: Alias::new(&popularity),
            recipe,
            popularity,
            items,
        }
    }

    /// Plants one user, the same every time.
    pub(super) fn user(&self, user: u32) -> User {
        let mut stream = Stream::new(
            self.recipe.seed,
            Purpose::SyntheticUsers,
            0,
            u64::from(user),
        );
        let bias = self.recipe.user_bias * stream.normal();
        let mut factors = vec![0.0; self.items.stride()];
        let deviation = factor_deviation(&self.recipe);
        for factor in &mut factors[..self.recipe.rank] {
            *factor = (deviation * stream.normal()) as f32;
        }
        User {
            bias,
            factors,
            stream,
        }
    }

    /// The mean and both biases: what is predicted without factors.
    pub(super) fn biases(&self, user: &User, item: u32) -> f64 {
        self.recipe.mean + user.bias + f64::from(self.items.bias(item as usize))
    }

    /// The product of factors, summed in sixteen lanes.
    pub(super) fn product(&self, user: &User, item: u32) -> f32 {
        let mut lanes = [0.0; Factors::LANES];
        let (p, _) = user.factors.as_chunks::<{ Factors::LANES }>();
        let (q, _) = self
            .items
            .padded_row(item as usize)
            .as_chunks::<{ Factors::LANES }>();
        for (p, q) in p.iter().zip(q) {
            for (lane, (p, q)) in lanes.iter_mut().zip(p.iter().zip(q)) {
                *lane += p * q;
            }
        }
        let mut width = Factors::LANES / 2;
        while width > 0 {
            for lane in 0..width {
                lanes[lane] += lanes[lane + width];
            }
            width /= 2;
        }
        lanes[0]
    }

    /// The chance that a user takes an item when coming across it.
    fn chance(&self, product: f32) -> f64 {
        1.0 / (1.0 + libm::exp(-self.recipe.taste * f64::from(product)))
    }

    /// Draws `count` different items, each time by popularity times chance among those that are left.
    ///
    /// Items are come across by popularity and taken by chance, those taken before being passed over. Somebody who has seen
    /// nearly everything popular would search for long; so after as many tries as there are items, the rest is drawn in one
    /// sweep by exponential keys (Efraimidis and Spirakis: Weighted random sampling with a reservoir, 2006). That is the same
    /// distribution, since what is left to draw does not depend on how the first ones were drawn; and the
    /// work is at most proportional to the catalogue.
    pub(super) fn pick<'p>(
        &self,
        user: &mut User,
        count: usize,
        picker: &'p mut Picker,
    ) -> &'p [Pick] {
        let Picker {
            picked,
            picks,
            keyed,
        } = picker;
        picks.clear();
        for _ in 0..self.recipe.items {
            if picks.len() == count {
                break;
            }
            let item = self.alias.draw(&mut user.stream);
            let (word, bit) = (item as usize / 64, 1 << (item % 64));
            if picked[word] & bit != 0 {
                continue;
            }
            let product = self.product(user, item);
            if user.stream.uniform() < self.chance(product) {
                picked[word] |= bit;
                picks.push(Pick { item, product });
            }
        }
        let left = count - picks.len();
        if left > 0 {
            keyed.clear();
            for item in 0..self.recipe.items {
                if picked[item as usize / 64] >> (item % 64) & 1 == 0 {
                    let product = self.product(user, item);
                    let weight = f64::from(self.popularity[item as usize]) * self.chance(product);
                    let key = -libm::log(1.0 - user.stream.uniform()) / weight;
                    keyed.push((key, Pick { item, product }));
                }
            }
            // Equal keys are all but impossible, yet must not be left to the sorting algorithm.
            let order = |a: &(f64, Pick), b: &(f64, Pick)| {
                a.0.total_cmp(&b.0).then(a.1.item.cmp(&b.1.item))
            };
            keyed.select_nth_unstable_by(left - 1, order);
            keyed[..left].sort_unstable_by(order);
            picks.extend(keyed[..left].iter().map(|&(_, pick)| pick));
        }
        for pick in &*picks {
            picked[pick.item as usize / 64] = 0;
        }
        picks
    }
}

/// The standard deviation of one factor, such that products of `rank` of them have the recipe's.
fn factor_deviation(recipe: &Recipe) -> f64 {
    libm::sqrt(recipe.factors / libm::sqrt(recipe.rank as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_drawn_by_successive_sampling() {
        // Two of six items for each user, without taste; six tries, so that many users end with a sweep.
        let users = 40_000;
        let recipe = Recipe {
            users,
            items: 6,
            ratings: 2 * u64::from(users),
            least_per_user: 2,
            user_limit: 1.0 / 3.0,
            item_limit: 4.0,
            popularity_spread: 1.5,
            taste: 0.0,
            ..Recipe::default()
        };
        let truth = Truth::new(recipe);
        let mut picker = Picker::new(6);
        let mut found = [0.0; 6];
        for user in 0..users {
            let picks = truth.pick(&mut truth.user(user), 2, &mut picker);
            assert_eq!(picks.len(), 2);
            for pick in picks {
                found[pick.item as usize] += 1.0 / f64::from(users);
            }
        }
        let total: f64 = truth.popularity.iter().map(|&n| f64::from(n)).sum();
        let p: Vec<f64> = truth
            .popularity
            .iter()
            .map(|&n| f64::from(n) / total)
            .collect();
        assert!(p.iter().any(|&p| p > 0.4), "{p:?}");
        for i in 0..6 {
            let second = (0..6)
                .filter(|&j| j != i)
                .map(|j| p[j] * p[i] / (1.0 - p[j]));
            let expected = p[i] + second.sum::<f64>();
            let error = (expected * (1.0 - expected) / f64::from(users)).sqrt();
            assert!(
                (found[i] - expected).abs() < 5.0 * error,
                "{i}: {} {expected}",
                found[i]
            );
        }
    }
}
