//! Synthetic ratings of the shape of MovieLens: any size, streamed, the same bytes for the same recipe.
//!
//! Real ratings have three habits that a plain random matrix lacks, and that decide how fast and how well a recommender
//! does: a few users and items have most of the ratings, people rate what they like (ratings are not missing at random),
//! and what remains after the best prediction is mostly noise. All three are planted here, so the best reachable error is
//! known: [`Summary::oracle_rmse`].
//!
//! * **How many**: users' numbers of ratings are the quantiles of a bounded log-normal law (Johnson's S_B) with the exact
//!   total, and so are items' popularities. Both are dealt out in random order.
//! * **Which**: the items that users rate are drawn without replacement, by popularity times the logistic function of their taste
//!   for them.
//! * **What**: `mean + user bias + item bias + <p, q> + noise`, everything Gaussian, clipped to the scale and rounded to
//!   its steps.
//!
//! Every draw is keyed by the seed and the number of the user or item, so users are made in parallel and in blocks:
//! memory is 4 bytes a user for the counts (12 while they are fitted), about 90 bytes an item at rank 16, and some 20 MB for the
//! blocks in flight.
//!
//! ```
//! use lowrank::synthetic::{Recipe, Synthetic};
//!
//! let recipe = Recipe { users: 100, items: 200, ratings: 5_000, ..Recipe::default() };
//! let mut csv = Vec::new();
//! let summary = Synthetic::new(recipe)?.write(&mut csv)?;
//! assert_eq!(csv.iter().filter(|&&byte| byte == b'\n').count(), 5_001);
//! assert!(summary.oracle_rmse < summary.biases_rmse);
//! # Ok::<(), lowrank::Error>(())
//! ```

mod alias;
mod generator;
mod recipe;
mod spread;
mod summary;
mod text;
mod truth;

pub use generator::{Rating, Synthetic};
pub use recipe::{PRESETS, Preset, Recipe};
pub use summary::Summary;
