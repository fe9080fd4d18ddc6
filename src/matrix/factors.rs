//! Dense factors of one side.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::spilled::{Room, Scratch, Spilled, Traffic};
use crate::error::Result;
use crate::kernel::prefer_huge_pages;

/// Sixteen floats: one cache line, one AVX-512 register.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; Factors::LANES]);

/// Factors of one side: row-major f32, each row starting on a cache line, and a bias for each row if the model has biases.
///
/// Rows are padded with zeros to whole lines of 16 floats; kernels run over whole lines and so need no tails. Keeping the
/// padding zero is the caller's part of the bargain when it writes through [`Factors::flat_mut`].
///
/// They are in memory, unless they are [spilled](Factors::spilled) to a file. Whoever takes spilled ones goes by
/// [bands](Factors::bands), which are in memory one at a time; what gives single rows or all of them panics.
#[derive(Debug, Clone, PartialEq)]
pub struct Factors {
    rows: usize,
    rank: usize,
    /// None if they are spilled.
    lines: Vec<Line>,
    biases: Vec<f32>,
    spilled: Option<Spilled>,
}

impl Factors {
    /// Floats in a line of padding.
    pub const LANES: usize = 16;

    /// All zeros.
    pub fn zeros(rows: usize, rank: usize, biases: bool) -> Factors {
        let count = rows * rank.div_ceil(Self::LANES);
        let mut lines = Vec::with_capacity(count);
        prefer_huge_pages(lines.spare_capacity_mut());
        lines.resize(count, Line::zeroed());
        Factors {
            rows,
            rank,
            lines,
            biases: vec![0.0; if biases { rows } else { 0 }],
            spilled: None,
        }
    }

    /// Factors that lie in a file of [`Factors::bytes`], with so much room in memory for their bands.
    pub fn spilled(
        rows: usize,
        rank: usize,
        biases: bool,
        file: Box<dyn Scratch>,
        room: Room,
    ) -> Factors {
        let empty = Factors::zeros(0, rank, biases);
        let spilled = Spilled::new(file, room, [rows, empty.stride()], biases);
        Factors {
            rows,
            spilled: Some(spilled),
            ..empty
        }
    }

    /// Memory that factors of this size take, in bytes.
    pub fn bytes(rows: usize, rank: usize, biases: bool) -> u64 {
        let row = rank.div_ceil(Self::LANES) * size_of::<Line>() + if biases { 4 } else { 0 };
        rows as u64 * row as u64
    }

    /// Sets all of them, and all biases, to zero.
    pub fn clear(&mut self) {
        self.flat_mut().fill(0.0);
        self.biases.fill(0.0);
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of factors in a row.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Floats from one row to the next: the rank rounded up to whole lines.
    pub fn stride(&self) -> usize {
        self.rank.div_ceil(Self::LANES) * Self::LANES
    }

    /// One row, without its padding.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.padded_row(row)[..self.rank]
    }

    /// One row, without its padding.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        let (start, rank) = (row * self.stride(), self.rank);
        &mut self.flat_mut()[start..start + rank]
    }

    /// One row with its padding, as kernels take it.
    pub fn padded_row(&self, row: usize) -> &[f32] {
        let stride = self.stride();
        &self.flat()[row * stride..(row + 1) * stride]
    }

    /// All rows with their padding.
    pub fn flat(&self) -> &[f32] {
        bytemuck::cast_slice(&self.lines)
    }

    /// All rows with their padding, which must stay zero.
    pub fn flat_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }

    /// One bias a row, or nothing if the model has none.
    pub fn biases(&self) -> &[f32] {
        &self.biases
    }

    /// One bias a row, or nothing if the model has none.
    pub fn biases_mut(&mut self) -> &mut [f32] {
        &mut self.biases
    }

    /// All rows with their padding, and all biases, to be written side by side.
    pub fn parts_mut(&mut self) -> (&mut [f32], &mut [f32]) {
        (bytemuck::cast_slice_mut(&mut self.lines), &mut self.biases)
    }

    /// Adds a multiple of other factors of the same size, biases included.
    ///
    /// # Panics
    /// If the sizes differ.
    pub fn add_scaled(&mut self, scale: f32, other: &Factors) {
        assert_eq!(
            (self.rows, self.rank, self.biases.len()),
            (other.rows, other.rank, other.biases.len()),
            "factors of the same size"
        );
        let (flat, biases) = self.parts_mut();
        let pairs = flat.iter_mut().zip(other.flat());
        for (x, y) in pairs.chain(biases.iter_mut().zip(other.biases())) {
            *x += scale * y;
        }
    }

    /// Whether the model has biases.
    pub fn has_biases(&self) -> bool {
        match &self.spilled {
            Some(spilled) => spilled.biases,
            None => !self.biases.is_empty(),
        }
    }

    /// The bias of a row, zero if the model has none.
    pub fn bias(&self, row: usize) -> f32 {
        self.biases.get(row).copied().unwrap_or(0.0)
    }

    /// Whether they lie in a file.
    pub fn is_spilled(&self) -> bool {
        self.spilled.is_some()
    }

    /// What may be in memory of spilled factors; of others all is.
    pub fn room(&self) -> Option<Room> {
        self.spilled.as_ref().map(|spilled| spilled.room)
    }

    /// What has been read and written of spilled factors so far.
    pub fn traffic(&self) -> Traffic {
        let spilled = self.spilled.as_ref();
        spilled.map_or(Traffic::default(), Spilled::traffic)
    }

    /// Cuts rows into bands that there is room for at a time, in order: a single one if they are in memory.
    pub fn bands(&self, rows: Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let most = match self.room() {
            Some(room) => room.rows_of_band(self.rank, self.has_biases()),
            None => rows.len().max(1),
        };
        let end = rows.end;
        rows.step_by(most)
            .map(move |first| first..end.min(first + most))
    }

    /// Factors of no rows yet, as room for a band of these.
    pub fn empty_band(&self) -> Factors {
        Factors::zeros(0, self.rank, false)
    }

    /// These rows, read into `band` if they are spilled: factors in memory, and the number of their first row.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn load<'a>(
        &'a self,
        rows: Range<usize>,
        band: &'a mut Factors,
    ) -> Result<(&'a Factors, usize)> {
        let Some(spilled) = &self.spilled else {
            return Ok((self, 0));
        };
        band.resize(rows.len(), spilled.biases);
        let (flat, biases) = band.parts_mut();
        spilled.read(rows.clone(), flat, biases)?;
        Ok((band, rows.start))
    }

    /// Lets `work` change rows with their padding and biases, read into `band` and written back if they are spilled.
    ///
    /// # Errors
    /// If they cannot be read or written, or `work` fails: then nothing is written.
    pub fn edit<T>(
        &mut self,
        rows: Range<usize>,
        band: &mut Factors,
        work: impl FnOnce(&mut [f32], &mut [f32]) -> Result<T>,
    ) -> Result<T> {
        let stride = self.stride();
        let Some(spilled) = &mut self.spilled else {
            let (flat, mut biases) = self.parts_mut();
            if !biases.is_empty() {
                biases = &mut biases[rows.clone()];
            }
            return work(&mut flat[rows.start * stride..rows.end * stride], biases);
        };
        band.resize(rows.len(), spilled.biases);
        let (flat, biases) = band.parts_mut();
        spilled.read(rows.clone(), flat, biases)?;
        let done = work(flat, biases)?;
        spilled.write(rows.start, flat, biases)?;
        Ok(done)
    }

    /// Writes rows, given without their padding, from row `first` on; by way of `band` if they are spilled.
    ///
    /// # Errors
    /// If they cannot be written.
    ///
    /// # Panics
    /// If there are not so many rows.
    pub fn set_rows(&mut self, first: usize, rows: &[f32], band: &mut Factors) -> Result<()> {
        let (rank, stride, count) = (self.rank, self.stride(), rows.len() / self.rank);
        assert!(first + count <= self.rows, "rows that are there");
        let copy = |flat: &mut [f32]| {
            for (own, row) in flat.chunks_exact_mut(stride).zip(rows.chunks_exact(rank)) {
                own[..rank].copy_from_slice(row);
            }
        };
        let Some(spilled) = &mut self.spilled else {
            copy(&mut self.flat_mut()[first * stride..(first + count) * stride]);
            return Ok(());
        };
        band.resize(count, false);
        copy(band.flat_mut());
        spilled.write(first, band.flat(), &[])
    }

    /// Writes biases from that of row `first` on.
    ///
    /// # Errors
    /// If they cannot be written.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn set_biases(&mut self, first: usize, biases: &[f32]) -> Result<()> {
        assert!(first + biases.len() <= self.rows, "rows that are there");
        match &mut self.spilled {
            Some(spilled) => spilled.write(first, &[], biases),
            None => {
                self.biases[first..first + biases.len()].copy_from_slice(biases);
                Ok(())
            }
        }
    }

    /// These rows in this order, with their biases, in memory; zeros where there is none. Rows that are no further apart
    /// than [`Factors::NEAR`] and ascend are read together if they are spilled, with those between them.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn gather(&self, rows: &[Option<u32>]) -> Result<Factors> {
        let mut gathered = Factors::zeros(rows.len(), self.rank, self.has_biases());
        let (stride, mut band) = (self.stride(), self.empty_band());
        let mut at = 0;
        let near = |a: &Option<u32>, b: &Option<u32>| match (a, b) {
            (Some(a), Some(b)) => a < b && b - a <= Self::NEAR,
            _ => false,
        };
        for run in rows.chunk_by(near) {
            if let (Some(&Some(first)), Some(&Some(last))) = (run.first(), run.last()) {
                let (loaded, start) = self.load(first as usize..last as usize + 1, &mut band)?;
                for (at, row) in (at..).zip(run.iter().flatten()) {
                    let row = *row as usize - start;
                    let (flat, biases) = gathered.parts_mut();
                    flat[at * stride..][..stride].copy_from_slice(loaded.padded_row(row));
                    if let Some(bias) = biases.get_mut(at) {
                        *bias = loaded.bias(row);
                    }
                }
            }
            at += run.len();
        }
        Ok(gathered)
    }

    /// Rows to the next one that is worth reading along with those between: a disk gives whole blocks.
    pub const NEAR: u32 = 8;

    /// Another number of rows, whatever is in them; the memory of more rows is kept.
    fn resize(&mut self, rows: usize, biases: bool) {
        let lines = rows * self.rank.div_ceil(Self::LANES);
        self.rows = rows;
        self.lines.resize(lines, Line::zeroed());
        self.biases.resize(if biases { rows } else { 0 }, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_start_on_cache_lines_and_are_padded() {
        let mut factors = Factors::zeros(3, 10, true);
        factors.row_mut(1).fill(1.0);
        assert_eq!(factors.stride(), 16);
        assert_eq!(factors.row(1), [1.0; 10]);
        assert_eq!(factors.padded_row(1)[10..], [0.0; 6]);
        assert_eq!(factors.padded_row(2).as_ptr().addr() % 64, 0);
        assert_eq!(Factors::bytes(3, 10, true), 3 * 68);
        assert_eq!(factors.bias(2), 0.0);
    }
}
