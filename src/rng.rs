//! The only randomness: counter-based streams.
//!
//! A stream is a function of what it is for, never of when or on which thread it is drawn: ChaCha8 under a key made of
//! (seed, purpose, epoch), with the row or block as its stream number. Splits use the stateless [`mix`] instead, because
//! they want one number for each pair of ids. Elementary functions come from `libm`, so that the bits are the same on
//! every machine.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream is drawn for. Streams of different purposes are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Random starts of user factors.
    UserFactors = 1,
    /// Random starts of item factors.
    ItemFactors = 2,
    /// Which ratings are held out for testing.
    TestSplit = 3,
    /// Which ratings are held out for validation.
    ValidationSplit = 4,
    /// Synthetic users: activity, taste, what they rate and how.
    SyntheticUsers = 5,
    /// Synthetic items: popularity and character.
    SyntheticItems = 6,
    /// The order of the waves of a stochastic epoch.
    Waves = 7,
    /// The order of the mini-batches of an epoch.
    Batches = 8,
    /// Negatives of one user.
    Negatives = 9,
    /// Negatives that the users of a mini-batch share.
    SharedNegatives = 10,
    /// Which users are held out whole.
    TestUsers = 11,
    /// The options of the trials of a search.
    Trials = 12,
    /// The items that one user's held-out ones are ranked among.
    SampledRanking = 13,
    /// Which factors of a user are left out of a visit.
    Dropout = 14,
}

/// A 64-bit key of an external id: FNV-1a, then the finalizer of splitmix64.
///
/// Written into nothing, but every random start and every split hangs on it, so it never changes.
pub fn key(id: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in id {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    finalize(hash)
}

/// Mixes two numbers into one, each bit of either deciding about half of the result's.
pub fn mix(a: u64, b: u64) -> u64 {
    finalize(finalize(a.wrapping_add(0x9e37_79b9_7f4a_7c15)) ^ b)
}

/// The finalizer of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn finalize(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The top 53 bits of a number, as a fraction in [0, 1).
pub fn fraction(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
}

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Stream {
    rng: ChaCha8Rng,
    spare: Option<f64>,
}

impl Stream {
    /// The stream for one row or block of one epoch.
    pub fn new(seed: u64, purpose: Purpose, epoch: u64, row: u64) -> Stream {
        let mut key = [0_u8; 32];
        key[0..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
        key[16..24].copy_from_slice(&epoch.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(row);
        Stream { rng, spare: None }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        fraction(self.bits())
    }

    /// Uniform among 0..n (Lemire's multiplication, without its rejection: the bias is below n / 2^64).
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// The numbers 0..n in random order (Fisher and Yates).
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<_> = (0..n).collect();
        for last in (1..n).rev() {
            order.swap(last, self.below(last as u64 + 1) as usize);
        }
        order
    }

    /// Standard normal (Box and Muller, both values used).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        // 1 - u lies in (0, 1], where the logarithm is finite.
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform()));
        let (sin, cos) = libm::sincos(2.0 * std::f64::consts::PI * self.uniform());
        self.spare = Some(radius * sin);
        radius * cos
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_reproducible_and_distinct() {
        let draw = |seed, purpose, epoch, row| Stream::new(seed, purpose, epoch, row).bits();
        let first = draw(1, Purpose::UserFactors, 0, 7);
        assert_eq!(first, draw(1, Purpose::UserFactors, 0, 7));
        for other in [
            draw(2, Purpose::UserFactors, 0, 7),
            draw(1, Purpose::ItemFactors, 0, 7),
            draw(1, Purpose::UserFactors, 1, 7),
            draw(1, Purpose::UserFactors, 0, 8),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn permutations_are_of_all_numbers_and_differ() {
        let draw = |epoch| Stream::new(1, Purpose::Waves, epoch, 0).permutation(32);
        let first = draw(1);
        assert_eq!(first, draw(1));
        assert_ne!(first, draw(2));
        let mut sorted = first;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..32).collect::<Vec<_>>());
    }

    #[test]
    fn normal_has_mean_zero_and_variance_one() {
        let mut stream = Stream::new(5, Purpose::UserFactors, 0, 0);
        let n = 200_000;
        let (mut sum, mut squares, mut fourth) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            let x = stream.normal();
            sum += x;
            squares += x * x;
            fourth += x * x * x * x;
        }
        let n = f64::from(n);
        // Five standard errors: 1/sqrt(n), sqrt(2/n), sqrt(96/n).
        assert!((sum / n).abs() < 5.0 / n.sqrt());
        assert!((squares / n - 1.0).abs() < 5.0 * (2.0 / n).sqrt());
        assert!((fourth / n - 3.0).abs() < 5.0 * (96.0 / n).sqrt());
    }

    #[test]
    fn keys_and_mixes_are_pinned() {
        // FNV-1a of "a" is published as af63dc4c8601ec8c; the finalizer follows it.
        assert_eq!(key(b"a"), finalize(0xaf63_dc4c_8601_ec8c));
        // splitmix64 seeded with 0 gives e220a8397b1dcdaf first.
        assert_eq!(finalize(0x9e37_79b9_7f4a_7c15), 0xe220_a839_7b1d_cdaf);
        let mean: f64 = (0..10_000).map(|i| fraction(mix(42, i))).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 5.0 / (12.0_f64 * 10_000.0).sqrt());
    }
}
