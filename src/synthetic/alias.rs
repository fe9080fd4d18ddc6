//! Drawing from a discrete distribution in constant time.

use crate::rng::Stream;

/// An alias table (Walker 1977, built as by Vose: A linear algorithm for generating random numbers with a given
/// distribution, 1991): a column is drawn evenly, and keeps the draw or hands it to its alias.
#[derive(Debug, Clone)]
pub(super) struct Alias {
    columns: Vec<Column>,
}

#[derive(Debug, Clone, Copy)]
struct Column {
    /// The share of draws that the column keeps, in units of 2^-32.
    keep: u32,
    alias: u32,
}

impl Alias {
    /// A table over at least one weight, not all zero.
    pub(super) fn new(weights: &[u32]) -> Alias {
        let mean = weights.iter().map(|&w| f64::from(w)).sum::<f64>() / weights.len() as f64;
        let mut left: Vec<f64> = weights.iter().map(|&w| f64::from(w) / mean).collect();
        let mut columns: Vec<Column> = (0..weights.len() as u32)
            .map(|alias| Column {
                keep: u32::MAX,
                alias,
            })
            .collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) =
            (0..weights.len() as u32).partition(|&i| left[i as usize] < 1.0);
        while let (Some(poor), Some(&rich)) = (small.pop(), large.last()) {
            let share = left[poor as usize];
            columns[poor as usize] = Column {
                keep: (share * (1_u64 << 32) as f64) as u32,
                alias: rich,
            };
            left[rich as usize] -= 1.0 - share;
            if left[rich as usize] < 1.0 {
                large.pop();
                small.push(rich);
            }
        }
        Alias { columns }
    }

    /// An index, with a probability in proportion to its weight.
    pub(super) fn draw(&self, stream: &mut Stream) -> u32 {
        // The whole part of the product picks the column, its fraction is left to decide about the alias.
        let product = u128::from(stream.bits()) * self.columns.len() as u128;
        let column = (product >> 64) as u32;
        let fraction = (product as u64 >> 32) as u32;
        let Column { keep, alias } = self.columns[column as usize];
        if fraction < keep { column } else { alias }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    #[test]
    fn draws_follow_the_weights() {
        let weights = [50, 1, 10, 10, 120, 9];
        let alias = Alias::new(&weights);
        let total: u32 = weights.iter().sum();

        // Exactly, by adding up the shares of the columns.
        let mut shares = [0.0; 6];
        for (i, column) in alias.columns.iter().enumerate() {
            let keep = f64::from(column.keep) / (1_u64 << 32) as f64;
            shares[i] += keep / 6.0;
            shares[column.alias as usize] += (1.0 - keep) / 6.0;
        }
        // And by drawing.
        let mut stream = Stream::new(1, Purpose::SyntheticItems, 0, 0);
        let n = 100_000;
        let mut counts = [0_u32; 6];
        for _ in 0..n {
            counts[alias.draw(&mut stream) as usize] += 1;
        }
        for i in 0..6 {
            let p = f64::from(weights[i]) / f64::from(total);
            assert!((shares[i] - p).abs() < 1e-7, "{i}: {} {p}", shares[i]);
            let error = (p * (1.0 - p) / f64::from(n)).sqrt();
            let share = f64::from(counts[i]) / f64::from(n);
            assert!((share - p).abs() < 5.0 * error, "{i}: {share} {p}");
        }
    }

    #[test]
    fn one_weight_is_always_drawn() {
        let mut stream = Stream::new(1, Purpose::SyntheticItems, 0, 0);
        assert_eq!(Alias::new(&[3]).draw(&mut stream), 0);
    }
}
