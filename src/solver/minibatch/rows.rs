//! The rows of a side that a batch moves, shared out among tasks.

use super::Steps;
use crate::kernel::{self, Descent, Isa};
use crate::matrix::Factors;

/// One side: rows, and the sums of squared gradients that go with them.
pub struct Moving<'a> {
    /// Factors and biases.
    pub factors: &'a mut Factors,
    /// Of each row the sums of squared gradients so far: of the factors, and of the bias if there is one.
    pub squares: &'a mut Factors,
}

/// Consecutive rows, for one task to write.
pub struct Span<'a> {
    first: usize,
    rank: usize,
    stride: usize,
    pitch: usize,
    flat: &'a mut [f32],
    biases: &'a mut [f32],
    squares: &'a mut [f32],
    bias_squares: &'a mut [f32],
}

impl Moving<'_> {
    /// Spans from each `first` to the row behind the `last` of the pairs, which are disjoint and ascending.
    pub fn spans(&mut self, rows: impl Iterator<Item = (usize, usize)>) -> Vec<Span<'_>> {
        let rank = self.factors.rank();
        let (stride, pitch) = (self.factors.stride(), self.squares.stride());
        let has_biases = self.factors.has_biases();
        let (mut flat, mut biases) = self.factors.parts_mut();
        let (mut squares, mut bias_squares) = self.squares.parts_mut();
        let mut at = 0;
        let mut spans = Vec::new();
        for (first, last) in rows {
            let (skip, take) = (first - at, last + 1 - first);
            let biased = usize::from(has_biases);
            spans.push(Span {
                first,
                rank,
                stride,
                pitch,
                flat: cut(&mut flat, skip, take, stride),
                biases: cut(&mut biases, skip, take, biased),
                squares: cut(&mut squares, skip, take, pitch),
                bias_squares: cut(&mut bias_squares, skip, take, biased),
            });
            at = last + 1;
        }
        spans
    }
}

/// Cuts off rows of so many floats, behind some that are skipped.
fn cut<'a>(rest: &mut &'a mut [f32], skip: usize, take: usize, floats: usize) -> &'a mut [f32] {
    let (_, rows) = std::mem::take(rest).split_at_mut(skip * floats);
    let (rows, behind) = rows.split_at_mut(take * floats);
    *rest = behind;
    rows
}

impl Span<'_> {
    /// Moves a row, and its bias, by the slopes at some rows of the other side; of the row as these saw it, if some of its factors
    /// were left out, the others stay.
    pub fn step(
        &mut self,
        isa: Isa,
        row: usize,
        terms: [Terms<'_>; 2],
        through: Option<&[f32]>,
        gradient: &mut [f32],
        steps: Steps,
    ) {
        let at = row - self.first;
        let slopes = || terms.iter().flat_map(|terms| terms.slopes);
        let positives = slopes().filter(|slope| slope.is_sign_negative()).count() as f32;
        let descent = Descent {
            rate: steps.rate,
            ridge: steps.ridge.on_factors(1) * positives,
            rank: self.rank,
            unit: steps.unit,
        };
        gradient.fill(0.0);
        for terms in terms {
            kernel::add_scaled_rows(isa, terms.slopes, terms.flat, terms.rows, gradient);
        }
        for (x, _) in gradient
            .iter_mut()
            .zip(through.unwrap_or_default())
            .filter(|&(_, &seen)| seen == 0.0)
        {
            *x = 0.0;
        }
        let own = &mut self.flat[at * self.stride..][..self.stride];
        kernel::descend(
            isa,
            own,
            gradient,
            &mut self.squares[at * self.pitch],
            descent,
        );
        if let Some(bias) = self.biases.get_mut(at).filter(|_| steps.biases) {
            let slope = slopes().sum::<f32>() + steps.ridge.on_bias(1) * positives * *bias;
            let squares = &mut self.bias_squares[at];
            *squares += slope * slope;
            if *squares > 0.0 {
                *bias -= steps.rate / squares.sqrt() * slope;
            }
        }
    }
}

/// A part of a row's gradient: slopes at rows of the other side, as they stood before the batch.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// One for each of the rows.
    pub slopes: &'a [f32],
    /// All rows, padded.
    pub flat: &'a [f32],
    /// Which of them.
    pub rows: &'a [u32],
}
