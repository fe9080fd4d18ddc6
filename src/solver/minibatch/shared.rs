//! The negatives that a batch shares: how they are drawn, and packed to be scored.

use rayon::prelude::*;

use super::ITEMS;
use super::window::Window;
use crate::kernel::{self, Isa, PackedItems, TILE};
use crate::matrix::Factors;
use crate::rng::Stream;

/// How likely each item is to be drawn.
pub enum Chances {
    /// All of so many alike.
    Even(usize),
    /// In proportion to a number each, of which these are the sums up to and with each item.
    Weighted(Vec<f64>),
}

impl Chances {
    /// By the root of how often the window has an item, and once more: popular items are what users are most likely to take, and
    /// so matter most in a sum over the catalogue.
    pub fn by_popularity(window: &Window, items: usize) -> Chances {
        let mut counts = vec![1_u32; items];
        for &item in window.all_items() {
            counts[item as usize] += 1;
        }
        let mut sum = 0.0;
        let up_to = counts.iter().map(|&count| {
            sum += f64::from(count).sqrt();
            sum
        });
        Chances::Weighted(up_to.collect())
    }

    /// By the root of the reciprocal of each item's number, from 1 on, where nothing is known of its popularity but that
    /// items are usually numbered by it: counts fall about as these do.
    pub fn by_number(items: usize) -> Chances {
        let mut sum = 0.0;
        let up_to = (1..=items).map(|number| {
            sum += 1.0 / (number as f64).sqrt();
            sum
        });
        Chances::Weighted(up_to.collect())
    }
}

/// The negatives that a batch shares.
pub struct Shared {
    /// Which; ascending and none twice, if they stand for the catalogue.
    pub items: Vec<u32>,
    /// How many items of the catalogue each stands for, if they do.
    pub weights: Vec<f32>,
    packed: Vec<f32>,
    /// What their scores start from, filled up to whole tiles.
    starts: Vec<f32>,
}

impl Shared {
    /// Draws so many with replacement, and packs their rows. A catalogue that is no larger stands for itself, whole.
    pub fn draw(
        count: usize,
        chances: &Chances,
        stream: &mut Stream,
        factors: &Factors,
        isa: Isa,
    ) -> Shared {
        let (items, weights) = match chances {
            Chances::Even(all) => {
                let draw = |_| stream.below(*all as u64) as u32;
                ((0..count).map(draw).collect(), Vec::new())
            }
            Chances::Weighted(up_to) if up_to.len() <= count => {
                ((0..up_to.len() as u32).collect(), vec![1.0; up_to.len()])
            }
            Chances::Weighted(up_to) => sample(count, up_to, stream),
        };
        let (rank, stride) = (factors.rank(), factors.stride());
        let mut packed = vec![0.0; kernel::packed_len(items.len(), rank)];
        let tiles = packed
            .par_chunks_mut(ITEMS * rank)
            .zip(items.par_chunks(ITEMS));
        tiles.for_each(|(packed, items)| {
            let mut rows = vec![0.0; items.len() * stride];
            for (row, &item) in rows.chunks_exact_mut(stride).zip(items) {
                row.copy_from_slice(factors.padded_row(item as usize));
            }
            kernel::pack_items(isa, &rows, stride, rank, 0..items.len(), packed);
        });
        let starts = items.iter().map(|&item| factors.bias(item as usize));
        let mut starts: Vec<f32> = starts.collect();
        starts.resize(items.len().next_multiple_of(TILE), 0.0);
        Shared {
            items,
            weights,
            packed,
            starts,
        }
    }

    /// Their rows, to be scored.
    pub fn packed(&self, rank: usize) -> PackedItems<'_> {
        PackedItems {
            packed: &self.packed,
            rank,
            starts: &self.starts,
        }
    }
}

/// Draws so many items by these chances. Each stands for the reciprocal of how often it was to be expected, as often as it was drawn.
fn sample(count: usize, up_to: &[f64], stream: &mut Stream) -> (Vec<u32>, Vec<f32>) {
    let all = up_to.last().copied().unwrap_or_default();
    let mut drawn: Vec<_> = (0..count)
        .map(|_| {
            let at = stream.uniform() * all;
            up_to.partition_point(|&end| end <= at).min(up_to.len() - 1)
        })
        .collect();
    drawn.sort_unstable();
    drawn
        .chunk_by(|a, b| a == b)
        .map(|same| {
            let item = same[0];
            let before = if item == 0 { 0.0 } else { up_to[item - 1] };
            let expected = count as f64 * (up_to[item] - before) / all;
            (item as u32, (same.len() as f64 / expected) as f32)
        })
        .unzip()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    /// What a sample says of a sum over the catalogue is right on average.
    #[test]
    fn a_sample_stands_for_the_catalogue() {
        const ITEMS: usize = 50;
        let mut sum = 0.0;
        let up_to: Vec<f64> = (0..ITEMS)
            .map(|item| {
                sum += 1.0 / (item + 1) as f64;
                sum
            })
            .collect();
        let value = |item: u32| f64::from(item * item % 17);
        let whole: f64 = (0..ITEMS as u32).map(value).sum();
        const DRAWS: u64 = 4000;
        let mut mean = 0.0;
        for draw in 0..DRAWS {
            let mut stream = Stream::new(1, Purpose::SharedNegatives, 1, draw);
            let (items, weights) = sample(20, &up_to, &mut stream);
            assert!(items.is_sorted_by(|a, b| a < b));
            let of_items = items.iter().zip(&weights);
            mean += of_items
                .map(|(&i, &w)| f64::from(w) * value(i))
                .sum::<f64>()
                / DRAWS as f64;
        }
        // A standard error is about 0.4 % of the sum.
        assert!((mean / whole - 1.0).abs() < 0.02, "{mean} {whole}");
    }
}
