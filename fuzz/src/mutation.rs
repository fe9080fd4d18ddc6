//! Mutations of well-formed cases: bits, bytes, whole numbers, pieces of text, cuts and copies.

/// Numbers that code forgets.
const NUMBERS: [u64; 12] = [
    0,
    1,
    2,
    63,
    64,
    255,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 32,
    1 << 63,
    u64::MAX - 63,
    u64::MAX,
];

/// Pieces of text that parsers trip over.
const PIECES: [&str; 20] = [
    ",",
    "::",
    "\t",
    "\n",
    "\r\n",
    "\"",
    "\"\"",
    "nan",
    "inf",
    "-",
    "1e999",
    "1e-999",
    "(",
    ")",
    "^",
    "99999999999999999999",
    "\u{feff}",
    "\u{0}",
    "where(",
    "--",
];

/// Random numbers by counting: splitmix64.
pub struct Random(u64);

impl Random {
    /// The numbers of one case of a target.
    pub fn of_case(target: &str, seed: u64, number: u64) -> Random {
        let start = seed ^ number.wrapping_mul(0xd134_2543_de82_ef95);
        let mix = |hash: u64, byte: u8| hash.rotate_left(8) ^ u64::from(byte);
        Random(target.bytes().fold(start, mix))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// One of these cases, changed in one to four places.
pub fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut case = seeds[random.below(seeds.len())].clone();
    for _ in 0..1 + random.below(4) {
        let at = random.below(case.len());
        match random.below(9) {
            0 | 1 if !case.is_empty() => case[at] ^= 1 << random.below(8),
            2 if !case.is_empty() => case[at] = random.next() as u8,
            // A field of a record lies at a multiple of four bytes.
            3 | 4 if case.len() >= 8 => {
                let at = random.below(case.len() / 4 - 1) * 4;
                let width = [2, 4, 8][random.below(3)].min(case.len() - at);
                let number = NUMBERS[random.below(NUMBERS.len())].to_le_bytes();
                case[at..at + width].copy_from_slice(&number[..width]);
            }
            5 => {
                let end = (at + 1 + random.below(64)).min(case.len());
                case.drain(at.min(end)..end);
            }
            6 => {
                let piece = PIECES[random.below(PIECES.len())].repeat(1 + random.below(3));
                case.splice(at..at, piece.bytes());
            }
            7 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                let to = (from + random.below(128)).min(other.len());
                case.splice(at..at, other[from..to].iter().copied());
            }
            _ if !case.is_empty() => {
                let end = (at + random.below(32)).min(case.len());
                let copy = case[at..end].to_vec();
                let to = random.below(case.len());
                case.splice(to..to, copy);
            }
            _ => case.push(random.next() as u8),
        }
    }
    case
}
