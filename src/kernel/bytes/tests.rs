use super::*;
use crate::kernel::tests::noise;
use crate::kernel::{ByteIsa, Isa, PackedItems, UserRows, pack_items, packed_len, score};
use proptest::prelude::*;

/// Rows of factors and their biases.
struct Rows {
    rank: usize,
    flat: Vec<f32>,
    biases: Vec<f32>,
}

impl Rows {
    fn row(&self, row: usize) -> (&[f32], f32) {
        (&self.flat[row * self.rank..][..self.rank], self.biases[row])
    }

    fn len(&self) -> usize {
        self.biases.len()
    }
}

/// Numbers that make bounds hard: of all sizes down to the least, equal, or none at all.
fn adversary(seed: u64, rows: usize, rank: usize) -> Rows {
    let kinds = noise(seed, rows);
    let draws = noise(seed ^ 1, rows * (rank + 1));
    let common = 10_f32.powf(20.0 * noise(seed ^ 2, 1)[0]);
    let (mut flat, mut biases) = (Vec::new(), Vec::new());
    for (row, kind) in kinds.iter().enumerate() {
        let draws = &draws[row * (rank + 1)..][..rank + 1];
        let of_kind = |x: f32| match (10.0 * kind.abs()) as u32 {
            0 => 0.0,
            1 => f32::from_bits((x.abs() * 100.0) as u32),
            2 => x * 1e-20,
            3 => x * 1e14,
            4 => x * 1e19,
            5 => x.signum() * common,
            6 if x > 0.95 => f32::INFINITY,
            7 if x > 0.95 => f32::NAN,
            _ => x * common,
        };
        flat.extend(draws[..rank].iter().map(|&x| of_kind(x)));
        biases.push(of_kind(draws[rank]));
    }
    Rows { rank, flat, biases }
}

/// All scores, as the search by scores alone computes them.
fn scores(users: &Rows, items: &Rows) -> Vec<f32> {
    let rank = items.rank;
    let stride = rank.next_multiple_of(LANES);
    let pad = |rows: &Rows| -> Vec<f32> {
        let padded = |row: &[f32]| {
            let zeros = std::iter::repeat_n(0.0, stride - rank);
            row.iter().copied().chain(zeros).collect::<Vec<_>>()
        };
        rows.flat.chunks_exact(rank).flat_map(padded).collect()
    };
    let mut starts = items.biases.clone();
    starts.resize(items.len().next_multiple_of(TILE), 0.0);
    let mut packed = vec![0.0; packed_len(items.len(), rank)];
    let isa = Isa::PORTABLE;
    pack_items(isa, &pad(items), stride, rank, 0..items.len(), &mut packed);
    let mut out = vec![0.0; users.len() * starts.len()];
    let rows = UserRows {
        flat: &pad(users),
        stride,
        starts: &users.biases,
    };
    let items = PackedItems {
        packed: &packed,
        rank,
        starts: &starts,
    };
    score(isa, rows, items, &mut out);
    out
}

/// Items in bytes.
struct Packed {
    scale: ByteScale,
    steps: Vec<ByteStep>,
    tiles: Vec<ByteTile>,
}

impl Packed {
    fn new(items: &Rows) -> Packed {
        let scale = ByteScale::new(items.rank, &items.biases).and(&items.flat);
        let rows: Vec<usize> = (0..items.len()).collect();
        let (mut steps, mut tiles) = (Vec::new(), Vec::new());
        for rows in rows.chunks(TILE) {
            let mut of_tile = vec![ByteStep::ZERO; ByteStep::of_rank(items.rank)];
            let rows = rows.iter().map(|&row| items.row(row));
            tiles.push(ByteTile::pack(scale, rows, &mut of_tile));
            steps.extend(of_tile);
        }
        Packed {
            scale,
            steps,
            tiles,
        }
    }

    fn hits(&self, isa: ByteIsa, block: &ByteBlock) -> Vec<Hit> {
        let mut hits = vec![Hit::default(); BYTE_USERS * self.tiles.len()];
        let items = ByteTiles {
            steps: &self.steps,
            tiles: &self.tiles,
        };
        let found = screen(isa, std::slice::from_ref(block), items, &mut hits);
        hits.truncate(found);
        hits
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Floors are scores that occur, so that what is compared is often equal.
    #[test]
    fn whatever_reaches_the_floor_passes(
        rank in 1_usize..=200,
        users in 1_usize..=BYTE_USERS,
        items in 1_usize..100,
        seed: u64,
    ) {
        let (of_users, mut of_items) = (adversary(seed, users, rank), adversary(!seed, items, rank));
        // Some point just where a user does: no product of lengths is too large for them.
        for item in (0..items).step_by(3) {
            let (row, _) = of_users.row(item % users);
            of_items.flat[item * rank..][..rank].copy_from_slice(row);
        }
        let scores = scores(&of_users, &of_items);
        let pitch = items.next_multiple_of(TILE);
        let packed = Packed::new(&of_items);
        let mut block = ByteBlock::new(packed.scale, rank);
        for user in 0..users {
            let (row, bias) = of_users.row(user);
            block.set(user, row, bias);
        }
        for round in 0..items.min(6) {
            let floor = |user: usize| match round {
                0 => f32::MIN,
                _ => scores[user * pitch + (user + round * 7) % items],
            };
            for user in (0..users).filter(|&user| floor(user).is_finite()) {
                block.set_floor(user, floor(user));
            }
            let hits = packed.hits(ByteIsa::PORTABLE, &block);
            for isa in ByteIsa::available() {
                prop_assert_eq!(&packed.hits(isa, &block), &hits, "{:?}", isa);
            }
            for user in (0..users).filter(|&user| floor(user).is_finite()) {
                for item in 0..items {
                    let score = scores[user * pitch + item];
                    let (tile, lane) = ((item / TILE) as u32, item % TILE);
                    let hit = hits.iter().find(|hit| (hit.user, hit.tile) == (user as u32, tile));
                    let passed = hit.is_some_and(|hit| hit.items >> lane & 1 == 1);
                    prop_assert!(passed || score.is_nan() || score < floor(user), "{score}");
                }
            }
            // Nobody, and what fills up the last tile, never passes.
            for hit in &hits {
                prop_assert!((hit.user as usize) < users);
                let real = items - hit.tile as usize * TILE;
                prop_assert!(real >= TILE || hit.items >> real == 0);
            }
        }
    }
}

#[test]
fn little_passes_that_is_not_good_enough() {
    let of = |seed, rows| Rows {
        rank: 64,
        flat: noise(seed, 64 * rows),
        biases: noise(seed + 1, rows),
    };
    let (users, items) = (of(1, BYTE_USERS), of(3, 3200));
    let scores = scores(&users, &items);
    let packed = Packed::new(&items);
    let mut block = ByteBlock::new(packed.scale, 64);
    let (mut good, mut passed) = (0, 0);
    for user in 0..BYTE_USERS {
        let (row, bias) = users.row(user);
        block.set(user, row, bias);
        let mut sorted = scores[user * items.len()..][..items.len()].to_vec();
        sorted.sort_by(f32::total_cmp);
        block.set_floor(user, sorted[items.len() - 20]);
        good += 20;
    }
    for hit in packed.hits(ByteIsa::PORTABLE, &block) {
        passed += hit.items.count_ones();
    }
    assert!((good..2 * good).contains(&passed), "{passed} for {good}");
}

#[test]
fn the_least_and_the_largest_bytes_do_not_overflow() {
    // Sums of the largest rank, of one sign, and of both.
    for sign in [1.0, -1.0] {
        let rank = LARGEST_RANK;
        let item = Rows {
            rank,
            flat: vec![1.0; rank],
            biases: vec![0.5],
        };
        let packed = Packed::new(&item);
        let mut block = ByteBlock::new(packed.scale, rank);
        block.set(0, &vec![sign; rank], 0.25);
        let score = sign * rank as f32 + 0.75;
        for isa in ByteIsa::available() {
            block.set_floor(0, score);
            assert_eq!(packed.hits(isa, &block).len(), 1, "{isa:?}");
            block.set_floor(0, score + 0.05 * rank as f32);
            assert_eq!(packed.hits(isa, &block).len(), 0, "{isa:?}");
        }
    }
}
