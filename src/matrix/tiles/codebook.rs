//! The different values of ratings, where they are few: each rating is then one byte.

/// Slots of the hash table: few collide.
const SLOTS: usize = 1 << 10;

/// Up to 256 different numbers, ascending, and the way from a number to its place.
///
/// Numbers are told apart by their bits, so that what comes out is exactly what went in.
#[derive(Debug, Clone, PartialEq)]
pub struct Codebook {
    values: Vec<f32>,
    /// A number's place, found by its hash or in the slots that follow.
    slots: Vec<Option<(u32, u8)>>,
}

impl Default for Codebook {
    fn default() -> Codebook {
        Codebook {
            values: Vec::new(),
            slots: vec![None; SLOTS],
        }
    }
}

impl Codebook {
    /// The most numbers that there is room for.
    pub const MOST: usize = 1 << 8;

    /// Adds a number, unless it is there. False if there is no room.
    pub fn insert(&mut self, value: f32) -> bool {
        let slot = self.slot(value);
        if self.slots[slot].is_some() {
            return true;
        }
        if self.values.len() == Self::MOST {
            return false;
        }
        self.slots[slot] = Some((value.to_bits(), self.values.len() as u8));
        self.values.push(value);
        true
    }

    /// Puts the numbers in ascending order, so that places do not depend on what came first.
    #[must_use]
    pub fn sorted(self) -> Codebook {
        let mut values = self.values;
        values.sort_by(f32::total_cmp);
        let mut sorted = Codebook::default();
        for value in values {
            sorted.insert(value);
        }
        sorted
    }

    /// All numbers by their place.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The place of a number.
    ///
    /// # Panics
    /// If it was never added.
    pub fn code(&self, value: f32) -> u8 {
        let (_, code) = self.slots[self.slot(value)].expect("a number that was counted");
        code
    }

    /// The slot that has the number, or that is free for it.
    fn slot(&self, value: f32) -> usize {
        let bits = value.to_bits();
        // Knuth's multiplicative hash: ratings differ in their upper bits alone.
        let mut slot = (bits.wrapping_mul(0x9e37_79b1) >> 22) as usize;
        while self.slots[slot].is_some_and(|(other, _)| other != bits) {
            slot = (slot + 1) % SLOTS;
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_ranks_and_a_number_too_many_is_told() {
        let mut book = Codebook::default();
        let values: Vec<f32> = (0..256).map(|i| ((i * 37) % 256) as f32 / 2.0).collect();
        for &value in values.iter().chain(&values) {
            assert!(book.insert(value));
        }
        let book = book.sorted();
        for rank in 0..=255 {
            assert_eq!(book.code(f32::from(rank) / 2.0), rank);
            assert_eq!(book.values()[usize::from(rank)], f32::from(rank) / 2.0);
        }
        assert!(!book.clone().insert(-1.0));
    }

    #[test]
    fn zeros_of_either_sign_are_two_numbers() {
        let mut book = Codebook::default();
        assert!(book.insert(0.0) && book.insert(-0.0));
        let book = book.sorted();
        assert_eq!(book.values().len(), 2);
        assert!(book.values()[usize::from(book.code(-0.0))].is_sign_negative());
    }
}
