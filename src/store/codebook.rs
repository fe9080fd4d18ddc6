//! The different values of a shard, each with a code of a byte.

/// Most values in a codebook.
pub const MOST: usize = 256;

/// Values in order of their first appearance, found by their bits: a small table with open addresses.
#[derive(Debug, Clone)]
pub struct Codebook {
    values: Vec<f32>,
    /// One more than a value's code, or zero.
    slots: Vec<u16>,
}

impl Codebook {
    /// Four times as many as values, so that a search is short.
    const SLOTS: usize = 4 * MOST;

    /// Of no value.
    pub fn new() -> Codebook {
        Codebook {
            values: Vec::new(),
            slots: vec![0; Self::SLOTS],
        }
    }

    /// The values by code.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The code of a value, a new one if it is the first of these bits; `None` if there is no room for it.
    #[inline]
    pub fn code(&mut self, value: f32) -> Option<u8> {
        // Fibonacci hashing: the upper bits of the product depend on all bits of the value.
        let hash = value.to_bits().wrapping_mul(0x9e37_79b9) >> 22;
        let mut at = hash as usize % Self::SLOTS;
        loop {
            match self.slots[at] {
                0 => break,
                slot => {
                    let code = slot - 1;
                    if self.values[usize::from(code)].to_bits() == value.to_bits() {
                        return Some(code as u8);
                    }
                }
            }
            at = (at + 1) % Self::SLOTS;
        }
        let code = self.values.len();
        if code == MOST {
            return None;
        }
        self.values.push(value);
        self.slots[at] = code as u16 + 1;
        Some(code as u8)
    }

    /// Forgets all values but the first so many.
    pub fn truncate(&mut self, values: usize) {
        if values == self.values.len() {
            return;
        }
        let mut kept = std::mem::take(&mut self.values);
        kept.truncate(values);
        self.slots.fill(0);
        for value in kept {
            self.code(value);
        }
    }

    /// The values in ascending order, and for each code its place among them: what a file holds must not depend on
    /// which value came first.
    pub fn sorted(&self) -> (Vec<f32>, [u8; MOST]) {
        let mut order: Vec<u8> = (0..self.values.len()).map(|code| code as u8).collect();
        let value = |code: u8| self.values[usize::from(code)];
        order.sort_unstable_by(|&a, &b| value(a).total_cmp(&value(b)));
        let mut places = [0; MOST];
        for (place, &code) in order.iter().enumerate() {
            places[usize::from(code)] = place as u8;
        }
        (order.into_iter().map(value).collect(), places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_count_up_and_are_found_again() {
        let mut book = Codebook::new();
        let values: Vec<f32> = (0..256)
            .map(|i| (i * 7919 % 256) as f32 / 8.0 - 3.0)
            .collect();
        for round in 0..2 {
            for (code, &value) in values.iter().enumerate() {
                assert_eq!(book.code(value), Some(code as u8), "{round}");
            }
        }
        assert_eq!(book.code(1e9), None);
        assert_eq!(book.code(values[255]), Some(255));
        let (sorted, places) = book.sorted();
        assert!(sorted.is_sorted() && sorted.len() == 256);
        book.truncate(100);
        assert_eq!(
            (book.code(values[99]), book.code(1e9)),
            (Some(99), Some(100))
        );
        for (code, value) in values.iter().enumerate() {
            assert_eq!(sorted[usize::from(places[code])], *value);
        }
    }

    #[test]
    fn zeros_of_either_sign_are_two_values() {
        let mut book = Codebook::new();
        assert_eq!((book.code(0.0), book.code(-0.0)), (Some(0), Some(1)));
        assert_eq!(book.sorted().0[0].to_bits(), (-0.0_f32).to_bits());
    }
}
