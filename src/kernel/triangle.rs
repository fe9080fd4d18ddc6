//! Normal equations put aside: the upper triangle and the right-hand side without gaps.
//!
//! Where the fixed side passes by in bands, many rows' equations wait between two bands. What is below the diagonal, and the
//! padding, are unspecified and need not wait with them: that is more than half of the floats.

use super::{LANES, NormalEquations};

impl NormalEquations {
    /// Floats of the upper triangle and the right-hand side.
    pub fn triangle_len(self) -> usize {
        let size = self.size();
        size * (size + 1) / 2 + size
    }

    /// Where the diagonal entry of an unknown lies in what was set aside.
    pub fn diagonal_aside(self, unknown: usize) -> usize {
        unknown * (2 * self.size() + 3 - unknown) / 2
    }

    /// Copies what counts of `sums`, row after row, to `aside`. What `aside` has behind that is unspecified.
    ///
    /// # Panics
    /// If either is shorter than this layout's.
    pub fn set_aside(self, sums: &[f32], aside: &mut [f32]) {
        let mut at = 0;
        for i in 0..self.size() {
            let (from, len) = (i * (self.pitch() + 1), self.size() + 1 - i);
            // Whole vectors, which are moves and no calls: what is too much, the next row overwrites.
            let wide = len.next_multiple_of(LANES);
            match (sums.get(from..from + wide), aside.get_mut(at..at + wide)) {
                (Some(row), Some(to)) => {
                    for (to, from) in to.as_chunks_mut().0.iter_mut().zip(row.as_chunks().0) {
                        let (to, from): (&mut [f32; LANES], &[f32; LANES]) = (to, from);
                        *to = *from;
                    }
                }
                _ => aside[at..at + len].copy_from_slice(&sums[from..from + len]),
            }
            at += len;
        }
    }

    /// Copies back to `sums` what was set aside. What does not count is left as it is.
    ///
    /// # Panics
    /// As [`set_aside`](NormalEquations::set_aside).
    pub fn take_up(self, aside: &[f32], sums: &mut [f32]) {
        let mut rest = &aside[..self.triangle_len()];
        for (i, row) in self.rows(sums.chunks_exact_mut(self.pitch())) {
            let (of_row, after) = rest.split_at(self.size() + 1 - i);
            row[i..=self.size()].copy_from_slice(of_row);
            rest = after;
        }
    }

    /// The rows of the matrix with their numbers.
    fn rows<R>(self, rows: impl ExactSizeIterator<Item = R>) -> impl Iterator<Item = (usize, R)> {
        assert!(rows.len() >= self.size(), "equations of this layout");
        rows.take(self.size()).enumerate()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Isa, Segment};
    use super::*;

    #[test]
    fn equations_gather_the_same_bits_when_they_are_set_aside_meanwhile() {
        for (rank, intercept) in [
            (1, false),
            (1, true),
            (15, true),
            (16, true),
            (17, false),
            (40, true),
        ] {
            let layout = NormalEquations::new(rank, intercept);
            let stride = rank.next_multiple_of(16);
            let flat: Vec<f32> = (0..30 * stride)
                .map(|i| match i % stride < rank {
                    true => (i * 37 % 101) as f32 / 50.0 - 1.0,
                    false => 0.0,
                })
                .collect();
            let cols: Vec<u32> = (0..30).collect();
            let targets: Vec<f32> = cols.iter().map(|col| 0.3 * *col as f32 - 4.0).collect();
            let mut panel = vec![0.0; layout.panel_len()];
            let mut add = |part: std::ops::Range<usize>, sums: &mut [f32]| {
                let segment = Segment {
                    cols: &cols[part.clone()],
                    targets: &targets[part],
                    weights: None,
                };
                layout.accumulate(Isa::best(), &flat, segment, sums, &mut panel);
            };
            let mut whole = vec![0.0; layout.sums_len()];
            add(0..11, &mut whole);
            add(11..30, &mut whole);
            let mut first = vec![0.0; layout.sums_len()];
            add(0..11, &mut first);
            let mut aside = vec![f32::NAN; layout.triangle_len()];
            layout.set_aside(&first, &mut aside);
            assert!(aside.iter().all(|x| x.is_finite()));
            let mut second = vec![7.0; layout.sums_len()];
            layout.take_up(&aside, &mut second);
            add(11..30, &mut second);
            for i in 0..layout.size() {
                let row = i * layout.pitch();
                let counts = row + i..=row + layout.size();
                assert_eq!(
                    whole[counts.clone()],
                    second[counts],
                    "rank {rank}, row {i}"
                );
            }
        }
    }
}
