//! Making the ratings: user by user, in blocks, in order.

use std::io::Write;
use std::ops::Range;

use rayon::prelude::*;

use super::recipe::Recipe;
use super::spread;
use super::summary::{Summary, Sums};
use super::text;
use super::truth::{Pick, Picker, Truth};
use crate::error::Result;
use crate::matrix::Shape;
use crate::rng::{Purpose, Stream};

/// Timestamps lie between the first of 1996 and the first of December 2019, in Unix seconds.
const TIMES: Range<u32> = 820_454_400..1_575_158_400;
/// Consecutive ratings of a user are up to so many seconds apart, ...
const WITHIN_VISIT: u64 = 30;
/// ... but after one in so many they stay away, ...
const PER_VISIT: u64 = 64;
/// ... for up to so many seconds: 60 days.
const BETWEEN_VISITS: u64 = 60 * 86_400;

/// Ratings that a block of users has, about: what a thread makes at a time.
const BLOCK: u64 = 8_192;
/// Blocks that are made before they are written, in order.
const BATCH: usize = 32;

/// One rating of a user.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rating {
    /// Number of the item, from 0.
    pub item: u32,
    /// The rating, in steps of the scale.
    pub value: f32,
    /// When, in Unix seconds.
    pub time: u32,
}

/// A truth to draw ratings from: the same ratings every time, in any order of users and on any number of threads.
#[derive(Debug, Clone)]
pub struct Synthetic {
    truth: Truth,
    /// Number of ratings of each user.
    counts: Vec<u32>,
}

/// Room to work in, one for each thread.
struct Scratch {
    picker: Picker,
    ratings: Vec<Rating>,
}

impl Synthetic {
    /// Plants the truth: users' numbers of ratings, items' popularity, biases and factors.
    ///
    /// # Errors
    /// If the recipe is impossible, such as more ratings than pairs.
    pub fn new(recipe: Recipe) -> Result<Synthetic> {
        recipe.check()?;
        let mut counts = recipe.by_user().quantiles();
        spread::shuffle(&mut counts, recipe.seed, Purpose::SyntheticUsers);
        let truth = Truth::new(recipe);
        Ok(Synthetic { truth, counts })
    }

    /// What was asked for.
    pub fn recipe(&self) -> &Recipe {
        &self.truth.recipe
    }

    /// How many users, items and ratings.
    pub fn shape(&self) -> Shape {
        Shape {
            users: self.truth.recipe.users as usize,
            items: self.truth.recipe.items as usize,
            ratings: self.truth.recipe.ratings,
        }
    }

    /// The rating of an item by a user before noise, neither clipped nor rounded: what the oracle knows.
    ///
    /// # Panics
    /// If there is no such item.
    pub fn truth(&self, user: u32, item: u32) -> f64 {
        let user = self.truth.user(user);
        self.truth.biases(&user, item) + f64::from(self.truth.product(&user, item))
    }

    /// Writes `userId,movieId,rating,timestamp` and a line for each rating: users by ascending number, the ratings of a
    /// user by ascending time. Numbers are written from 1. Lines are made in parallel on the current rayon pool.
    ///
    /// # Errors
    /// If `out` cannot be written to.
    pub fn write(&self, mut out: impl Write) -> Result<Summary> {
        out.write_all(text::HEADER)?;
        let half_stars = self.truth.recipe.half_stars;
        let summary = self.stream(
            |lines: &mut Vec<u8>, user, ratings| {
                text::push_lines(lines, user, ratings, half_stars);
            },
            |lines| Ok(out.write_all(&lines)?),
        )?;
        out.flush()?;
        Ok(summary)
    }

    /// Visits users by ascending number from 0, each with their ratings by ascending time. Ratings are made in parallel on
    /// the current rayon pool, visits are made one by one on this thread.
    ///
    /// # Errors
    /// What `visit` returns; the first error ends it.
    pub fn for_each_user(
        &self,
        mut visit: impl FnMut(u32, &[Rating]) -> Result<()>,
    ) -> Result<Summary> {
        self.stream(
            |users: &mut Vec<(u32, Vec<Rating>)>, user, ratings| {
                users.push((user, ratings.to_vec()));
            },
            |users| {
                users
                    .iter()
                    .try_for_each(|(user, ratings)| visit(*user, ratings))
            },
        )
    }

    /// Makes every user's ratings, in parallel; has `render` put them into one `T` a block, in parallel; and gives the
    /// blocks to `consume`, in order.
    fn stream<T: Default + Send>(
        &self,
        render: impl Fn(&mut T, u32, &[Rating]) + Sync,
        mut consume: impl FnMut(T) -> Result<()>,
    ) -> Result<Summary> {
        let mut sums = Sums::default();
        let mut by_item = vec![0_u32; self.truth.recipe.items as usize];
        let mut next_user = 0;
        while next_user < self.truth.recipe.users {
            let mut blocks = Vec::with_capacity(BATCH);
            while blocks.len() < BATCH && next_user < self.truth.recipe.users {
                let block = self.block_from(next_user);
                next_user = block.end;
                blocks.push(block);
            }
            let made: Vec<_> = blocks
                .into_par_iter()
                .map_init(
                    || Scratch {
                        picker: Picker::new(self.truth.recipe.items),
                        ratings: Vec::new(),
                    },
                    |scratch, users| {
                        let (mut rendered, mut sums) = (T::default(), Sums::default());
                        let mut rated = Vec::new();
                        for user in users {
                            sums.append(&self.rate(user, scratch));
                            rated.extend(scratch.ratings.iter().map(|rating| rating.item));
                            render(&mut rendered, user, &scratch.ratings);
                        }
                        (rendered, sums, rated)
                    },
                )
                .collect();
            for (rendered, block_sums, rated) in made {
                sums.append(&block_sums);
                for item in rated {
                    by_item[item as usize] += 1;
                }
                consume(rendered)?;
            }
        }
        Ok(sums.summary(&self.counts, &by_item))
    }

    /// The users from `first` on that together have about [`BLOCK`] ratings.
    fn block_from(&self, first: u32) -> Range<u32> {
        let mut ratings = 0;
        let mut end = first;
        while end < self.truth.recipe.users && ratings < BLOCK {
            // One more for each user, so that a crowd without ratings does not become one block.
            ratings += u64::from(self.counts[end as usize]) + 1;
            end += 1;
        }
        first..end
    }

    /// Makes one user's ratings into `scratch.ratings`.
    fn rate(&self, user: u32, scratch: &mut Scratch) -> Sums {
        let count = self.counts[user as usize] as usize;
        let mut user = self.truth.user(user);
        let picks = self.truth.pick(&mut user, count, &mut scratch.picker);
        let (low, high, step) = self.truth.recipe.scale();
        let mut sums = Sums::default();
        scratch.ratings.clear();
        let mut elapsed = 0;
        for &Pick { item, product } in picks {
            let biases = self.truth.biases(&user, item);
            let truth = biases + f64::from(product);
            let noisy = (truth + self.truth.recipe.noise * user.stream.normal()).clamp(low, high);
            let value = (noisy / step).round() * step;
            sums.add(value, truth.clamp(low, high), biases);
            scratch.ratings.push(Rating {
                item,
                value: value as f32,
                time: elapsed,
            });
            elapsed = elapsed
                .saturating_add(pause(&mut user.stream))
                .min(TIMES.end - TIMES.start - 1);
        }
        let last = scratch.ratings.last().map_or(0, |rating| rating.time);
        let first =
            TIMES.start + user.stream.below(u64::from(TIMES.end - TIMES.start - last)) as u32;
        for rating in &mut scratch.ratings {
            rating.time += first;
        }
        sums
    }
}

/// Seconds from one rating of a user to the next.
fn pause(stream: &mut Stream) -> u32 {
    let seconds = if stream.below(PER_VISIT) == 0 {
        stream.below(BETWEEN_VISITS)
    } else {
        stream.below(WITHIN_VISIT)
    };
    1 + seconds as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::synthetic::Preset;
    use crate::threads::Threads;

    fn preset(name: &str) -> Recipe {
        Preset::named(name).unwrap().recipe
    }

    fn all(synthetic: &Synthetic) -> (Vec<Vec<Rating>>, Summary) {
        let mut users = Vec::new();
        let summary = synthetic
            .for_each_user(|user, ratings| {
                assert_eq!(user as usize, users.len());
                users.push(ratings.to_vec());
                Ok(())
            })
            .unwrap();
        (users, summary)
    }

    fn csv(recipe: Recipe, threads: usize) -> (Vec<u8>, Summary) {
        let synthetic = Synthetic::new(recipe).unwrap();
        Threads::new(Some(threads)).unwrap().run(|| {
            let mut out = Vec::new();
            let summary = synthetic.write(&mut out).unwrap();
            (out, summary)
        })
    }

    #[test]
    fn every_pair_is_on_the_scale_once_and_the_total_is_exact() {
        for (half_stars, step) in [(true, 0.5), (false, 1.0)] {
            let recipe = Recipe {
                half_stars,
                ..Recipe::default()
            };
            let synthetic = Synthetic::new(recipe).unwrap();
            let (users, summary) = all(&synthetic);
            assert_eq!(users.len(), 1_000);
            assert_eq!(users.iter().map(Vec::len).sum::<usize>(), 100_000);
            assert_eq!(summary.ratings, 100_000);
            for ratings in &users {
                assert!(ratings.len() >= 20);
                let mut items: Vec<_> = ratings.iter().map(|rating| rating.item).collect();
                items.sort_unstable();
                assert!(items.windows(2).all(|pair| pair[0] < pair[1]));
                assert!(items[items.len() - 1] < 2_000);
                assert!(ratings.windows(2).all(|pair| pair[0].time < pair[1].time));
                for rating in ratings {
                    assert!(TIMES.contains(&rating.time));
                    assert!((step..=5.0).contains(&rating.value));
                    assert_eq!((rating.value / step).fract(), 0.0);
                }
            }
        }
    }

    #[test]
    fn the_same_bytes_for_any_number_of_threads_and_other_bytes_for_another_seed() {
        let recipe = Recipe::default();
        let (one, summary) = csv(recipe, 1);
        assert_eq!((&one, summary), (&csv(recipe, 2).0, csv(recipe, 5).1));
        assert_ne!(one, csv(Recipe { seed: 2, ..recipe }, 1).0);
    }

    #[test]
    fn the_text_says_what_the_visits_say() {
        let synthetic = Synthetic::new(preset("movielens-100k")).unwrap();
        let mut out = Vec::new();
        let written = synthetic.write(&mut out).unwrap();
        let mut lines = std::str::from_utf8(&out).unwrap().lines();
        assert_eq!(lines.next(), Some("userId,movieId,rating,timestamp"));
        let visited = synthetic
            .for_each_user(|user, ratings| {
                for &Rating { item, value, time } in ratings {
                    let line = format!("{},{},{value},{time}", user + 1, item + 1);
                    assert_eq!(lines.next(), Some(line.as_str()));
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(lines.next(), None);
        assert_eq!(written, visited);
    }

    #[test]
    fn the_summary_agrees_with_a_naive_count() {
        let synthetic = Synthetic::new(Recipe {
            rank: 19,
            ..Recipe::default()
        })
        .unwrap();
        let (users, summary) = all(&synthetic);
        let (mut n, mut sum, mut squares, mut oracle) = (0.0, 0.0, 0.0, 0.0);
        let mut residuals = Vec::new();
        let mut by_item = vec![0; 2_000];
        for (user, ratings) in (0..).zip(&users) {
            // The planted parameters again, from their definition.
            let mut stream = Stream::new(1, Purpose::SyntheticUsers, 0, u64::from(user));
            let user_bias = 0.4 * stream.normal();
            let scale = (0.55 / 19_f64.sqrt()).sqrt();
            let p: Vec<f64> = (0..19).map(|_| scale * stream.normal()).collect();
            for rating in ratings {
                let item = rating.item;
                let mut stream = Stream::new(1, Purpose::SyntheticItems, 0, u64::from(item));
                let biases = 3.3 + user_bias + 0.45 * stream.normal();
                let product: f64 = p.iter().map(|p| p * scale * stream.normal()).sum();
                let truth = biases + product;
                assert!((synthetic.truth(user, item) - truth).abs() < 1e-6);
                let value = f64::from(rating.value);
                n += 1.0;
                sum += value;
                squares += value * value;
                oracle += (value - truth.clamp(0.5, 5.0)).powi(2);
                residuals.push(value - biases);
                by_item[item as usize] += 1;
            }
        }
        let mean = sum / n;
        let shift = residuals.iter().sum::<f64>() / n;
        let rest = residuals.iter().map(|r| (r - shift).powi(2)).sum::<f64>() / n;
        for (found, expected) in [
            (summary.mean, mean),
            (
                summary.standard_deviation,
                (squares / n - mean * mean).sqrt(),
            ),
            (summary.oracle_rmse, (oracle / n).sqrt()),
            (summary.biases_rmse, rest.sqrt()),
        ] {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        let mut lengths: Vec<_> = users.iter().map(Vec::len).collect();
        lengths.sort_unstable();
        by_item.sort_unstable();
        assert_eq!(summary.least_per_user as usize, lengths[0]);
        assert_eq!(summary.median_per_user as usize, lengths[500]);
        assert_eq!(summary.most_per_user as usize, lengths[999]);
        assert_eq!(summary.median_per_item, by_item[1_000]);
        assert_eq!(summary.most_per_item, by_item[1_999]);
        let unrated = by_item.iter().filter(|&&n| n == 0).count();
        assert_eq!(summary.unrated_items as usize, unrated);
    }

    #[test]
    fn the_small_preset_has_the_statistics_of_its_namesake() {
        let (_, summary) = all(&Synthetic::new(preset("movielens-100k")).unwrap());
        // MovieLens 100k: 20 to 737 ratings a user, median 65; median 27 ratings an item, at most 583.
        assert_eq!((summary.users, summary.items), (943, 1_682));
        assert_eq!((summary.ratings, summary.least_per_user), (100_000, 20));
        assert!((60..=70).contains(&summary.median_per_user), "{summary:?}");
        assert!((650..=830).contains(&summary.most_per_user), "{summary:?}");
        assert!((20..=34).contains(&summary.median_per_item), "{summary:?}");
        assert!((480..=690).contains(&summary.most_per_item), "{summary:?}");
        // Its mean is 3.53 with deviation 1.126; biases alone reach about 0.94, factors about 0.90.
        assert!((3.35..3.65).contains(&summary.mean), "{summary:?}");
        assert!(
            (1.0..1.15).contains(&summary.standard_deviation),
            "{summary:?}"
        );
        assert!((0.76..0.80).contains(&summary.oracle_rmse), "{summary:?}");
        assert!((0.86..0.93).contains(&summary.biases_rmse), "{summary:?}");
    }

    #[test]
    fn numbers_tell_nothing_about_activity_or_popularity() {
        let synthetic = Synthetic::new(preset("movielens-100k")).unwrap();
        for counts in [&synthetic.counts, &synthetic.truth.popularity] {
            let half = counts.len() / 2;
            let sum = |part: &[u32]| part.iter().map(|&n| f64::from(n)).sum::<f64>();
            let ratio = sum(&counts[..half]) / sum(&counts[half..]);
            assert!((0.75..1.33).contains(&ratio), "{ratio}");
        }
    }

    #[test]
    fn people_rate_what_they_like() {
        let mean_of = |taste| {
            let recipe = Recipe {
                taste,
                ..Recipe::default()
            };
            all(&Synthetic::new(recipe).unwrap()).1.mean
        };
        assert!(mean_of(2.0) > mean_of(0.0) + 0.1);
    }

    #[test]
    fn a_full_matrix_can_be_asked_for() {
        let recipe = Recipe {
            users: 50,
            items: 70,
            ratings: 3_500,
            user_limit: 1.0,
            ..Recipe::default()
        };
        let (users, summary) = all(&Synthetic::new(recipe).unwrap());
        assert!(users.iter().all(|ratings| ratings.len() == 70));
        assert_eq!((summary.unrated_items, summary.most_per_item), (0, 50));
    }

    #[test]
    fn the_first_error_of_a_visit_ends_it() {
        let mut visits = 0;
        let stopped = Synthetic::new(Recipe::default())
            .unwrap()
            .for_each_user(|_, _| {
                visits += 1;
                Err(Error::new(ErrorKind::Io, "enough"))
            });
        assert_eq!((stopped.unwrap_err().kind(), visits), (ErrorKind::Io, 1));
    }

    #[test]
    fn a_failing_writer_is_an_error() {
        let mut small = [0; 1000];
        let written = Synthetic::new(Recipe::default())
            .unwrap()
            .write(&mut small[..]);
        assert_eq!(written.unwrap_err().kind(), ErrorKind::Io);
    }
}
