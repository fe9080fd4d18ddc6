//! What a batch met, by item: the way back from visits to items.

use rayon::prelude::*;

use super::rows::Terms;
use super::{ITEMS, TASK, Task};

/// The slopes of a batch by item, and by visit within an item.
pub struct Met {
    /// All items that the batch met, ascending.
    pub groups: Vec<Group>,
    visits: Vec<u32>,
    slopes: Vec<f32>,
    /// 0, 1, 2 ...: every visit.
    every: Vec<u32>,
    /// For each item that stands for a part of the catalogue, its slope at every visit.
    columns: Vec<f32>,
}

/// An item that was met.
pub struct Group {
    /// Its row.
    pub item: usize,
    /// Its pairs.
    pairs: std::ops::Range<usize>,
    /// Its number among the items that stand for the catalogue, if it is one of them.
    column: Option<usize>,
}

impl Met {
    /// Of a batch of so many visits, and what stood for the catalogue, ascending.
    pub fn new(tasks: &[Task], sampled: &[u32], visits: usize) -> Met {
        let all = tasks.iter().map(|task| task.pairs.items.len()).sum();
        let mut keys = Vec::with_capacity(all);
        let mut pairs = Vec::with_capacity(all);
        for (number, task) in tasks.iter().enumerate() {
            let mut start = 0;
            for (at, &end) in task.ends.iter().enumerate() {
                for pair in start..end {
                    keys.push(u64::from(task.pairs.items[pair]) << 32 | pairs.len() as u64);
                    pairs.push(((number * TASK + at) as u32, task.pairs.slopes[pair]));
                }
                start = end;
            }
        }
        order_by_item(&mut keys);
        let mut start = 0;
        let of_pairs = keys.chunk_by(|a, b| a >> 32 == b >> 32).map(|group| {
            let pairs = start..start + group.len();
            start = pairs.end;
            Group {
                item: (group[0] >> 32) as usize,
                pairs,
                column: None,
            }
        });
        let mut groups: Vec<_> = of_pairs.collect();
        groups.extend(sampled.iter().enumerate().map(|(column, &item)| Group {
            item: item as usize,
            pairs: 0..0,
            column: Some(column),
        }));
        groups.sort_by_key(|group| group.item);
        groups.dedup_by(|next, first| {
            let same = next.item == first.item;
            if same {
                first.column = next.column;
            }
            same
        });
        let (of_pairs, slopes) = keys.iter().map(|&key| pairs[key as u32 as usize]).unzip();
        Met {
            groups,
            visits: of_pairs,
            slopes,
            every: (0..visits as u32).collect(),
            columns: columns(tasks, sampled.len(), visits),
        }
    }

    /// What moves an item, given the rows of the visits.
    pub fn terms<'a>(&'a self, group: &Group, flat: &'a [f32]) -> [Terms<'a>; 2] {
        let of_pairs = Terms {
            slopes: &self.slopes[group.pairs.clone()],
            flat,
            rows: &self.visits[group.pairs.clone()],
        };
        let (column, every) = match group.column {
            Some(column) => (column, &*self.every),
            None => (0, &[][..]),
        };
        let of_catalogue = Terms {
            slopes: &self.columns[column * self.every.len()..][..every.len()],
            flat,
            rows: every,
        };
        [of_pairs, of_catalogue]
    }
}

/// Puts keys in order of their upper halves, those of one item as they came: by one digit after the other, from the lowest on.
fn order_by_item(keys: &mut Vec<u64>) {
    const DIGIT: u32 = 11;
    let digit = |key: u64, shift: u32| (key >> shift) as usize % (1 << DIGIT);
    let bits = u64::BITS - keys.iter().max().map_or(0, |key| key.leading_zeros());
    let mut ordered = vec![0; keys.len()];
    for shift in (u32::BITS..bits).step_by(DIGIT as usize) {
        let mut starts = [0_usize; 1 << DIGIT];
        keys.iter().for_each(|&key| starts[digit(key, shift)] += 1);
        let mut sum = 0;
        for start in &mut starts {
            sum += std::mem::replace(start, sum);
        }
        for &key in keys.iter() {
            let at = &mut starts[digit(key, shift)];
            ordered[*at] = key;
            *at += 1;
        }
        std::mem::swap(keys, &mut ordered);
    }
}

/// The slopes of the visits at so many items, item by item.
fn columns(tasks: &[Task], items: usize, visits: usize) -> Vec<f32> {
    let mut columns = vec![0.0; items * visits];
    let chunks = columns.par_chunks_mut(ITEMS * visits).enumerate();
    chunks.for_each(|(chunk, columns)| {
        let rows = tasks
            .iter()
            .flat_map(|task| task.pairs.shared.chunks(items));
        for (visit, row) in rows.enumerate() {
            let slopes = &row[chunk * ITEMS..];
            for (column, &slope) in columns.chunks_mut(visits).zip(slopes) {
                column[visit] = slope;
            }
        }
    });
    columns
}
