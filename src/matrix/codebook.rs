//! The different values of ratings, where they are few: each rating is then a code of a byte.

/// At most 256 values, each with a code, found by their bits: a small table with open addresses.
///
/// Values are told apart by their bits, so that what comes out is exactly what went in.
#[derive(Debug, Clone, PartialEq)]
pub struct Codebook {
    values: Vec<f32>,
    /// One more than a value's code, or zero.
    slots: Vec<u16>,
}

impl Default for Codebook {
    fn default() -> Codebook {
        Codebook {
            values: Vec::new(),
            slots: vec![0; Self::SLOTS],
        }
    }
}

impl Codebook {
    /// The most values that there is room for.
    pub const MOST: usize = 256;

    /// Four times as many as values, so that a search is short.
    const SLOTS: usize = 4 * Self::MOST;

    /// The values by code.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The code of a value, a new one if it is the first of these bits; `None` if there is no room for it.
    #[inline]
    pub fn code(&mut self, value: f32) -> Option<u8> {
        let slot = match self.look(value) {
            Ok(code) => return Some(code),
            Err(slot) => slot,
        };
        let code = self.values.len();
        if code == Self::MOST {
            return None;
        }
        self.values.push(value);
        self.slots[slot] = code as u16 + 1;
        Some(code as u8)
    }

    /// The code of a value that is there.
    #[inline]
    pub fn find(&self, value: f32) -> Option<u8> {
        self.look(value).ok()
    }

    /// The code of a value, or the slot that is free for it.
    #[inline]
    fn look(&self, value: f32) -> Result<u8, usize> {
        // Fibonacci hashing: the upper bits of the product depend on all bits of the value.
        let hash = value.to_bits().wrapping_mul(0x9e37_79b9) >> 22;
        let mut slot = hash as usize % Self::SLOTS;
        while self.slots[slot] != 0 {
            let code = self.slots[slot] - 1;
            if self.values[usize::from(code)].to_bits() == value.to_bits() {
                return Ok(code as u8);
            }
            slot = (slot + 1) % Self::SLOTS;
        }
        Err(slot)
    }

    /// Forgets all values but the first so many.
    pub fn truncate(&mut self, values: usize) {
        if values < self.values.len() {
            *self = Codebook::of(&self.values[..values]);
        }
    }

    /// The same values with codes in ascending order: what a file holds must not depend on which value came first.
    #[must_use]
    pub fn sorted(&self) -> Codebook {
        let mut values = self.values.clone();
        values.sort_unstable_by(f32::total_cmp);
        Codebook::of(&values)
    }

    /// These values, at most [`MOST`](Codebook::MOST), in this order.
    fn of(values: &[f32]) -> Codebook {
        let mut book = Codebook::default();
        for &value in values {
            book.code(value);
        }
        book
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_count_up_and_are_found_again() {
        let mut book = Codebook::default();
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
        let sorted = book.sorted();
        assert!(sorted.values().is_sorted() && sorted.values().len() == 256);
        book.truncate(100);
        assert_eq!(
            (book.code(values[99]), book.code(1e9)),
            (Some(99), Some(100))
        );
        for value in values {
            let code = sorted.find(value).unwrap();
            assert_eq!(sorted.values()[usize::from(code)], value);
        }
        assert_eq!(sorted.find(1e9), None);
    }

    #[test]
    fn zeros_of_either_sign_are_two_values() {
        let mut book = Codebook::default();
        assert_eq!((book.code(0.0), book.code(-0.0)), (Some(0), Some(1)));
        assert_eq!(book.sorted().values()[0].to_bits(), (-0.0_f32).to_bits());
    }
}
