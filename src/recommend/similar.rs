//! The rows of one side that point the same way.

use rayon::prelude::*;

use super::{Recommender, Search};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::{self, Isa};
use crate::matrix::{Factors, Side};
use crate::model::Model;

/// A row and the cosine of its angle to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Similar {
    /// The row.
    pub row: u32,
    /// From -1 to 1; 0 where a row has no length.
    pub cosine: f32,
}

/// The rows of one side, brought to length 1: the best scores of a row are then the rows most like it.
pub struct Neighbours {
    rows: Factors,
}

impl Neighbours {
    /// Copies the factors of a side.
    ///
    /// # Errors
    /// If the model has none.
    pub fn new(model: &Model, side: Side) -> Result<Neighbours> {
        let factors = model.factors(side)?;
        let isa = Isa::best();
        let mut rows = Factors::zeros(factors.rows(), factors.rank(), false);
        let mut band = factors.empty_band();
        for of_band in factors.bands(0..factors.rows()) {
            let (loaded, first) = factors.load(of_band.clone(), &mut band)?;
            for row in of_band {
                let own = loaded.padded_row(row - first);
                let length = kernel::dot(isa, own, own).sqrt();
                if length > 0.0 {
                    for (x, &y) in rows.row_mut(row).iter_mut().zip(own) {
                        *x = y / length;
                    }
                }
            }
        }
        Ok(Neighbours { rows })
    }

    /// Memory that the copy takes, in bytes.
    pub fn memory(rows: usize, rank: usize) -> u64 {
        Factors::bytes(rows, rank, false)
    }

    /// Finds, for each row as a user, the `top` others with the largest cosines, as [`similar`] does but for rounding.
    pub fn finder(&self, top: usize) -> Recommender<'_> {
        Recommender::among(&self.rows, top, Search::default())
    }
}

/// The rows of `side` whose factors have the largest cosine with those of `row`, the best first; biases do not count.
/// Equal ones come in the model's order. Runs on the thread pool it is called in.
///
/// # Errors
/// If the model has no factors, or they cannot be read, or those of this row are all zero, which point nowhere.
pub fn similar(model: &Model, side: Side, row: u32, top: usize) -> Result<Vec<Similar>> {
    let factors = model.factors(side)?;
    let isa = Isa::best();
    let gathered = factors.gather(&[Some(row)])?;
    let own = gathered.padded_row(0);
    let length = |row: &[f32]| kernel::dot(isa, row, row).sqrt();
    let own_length = length(own);
    if own_length == 0.0 {
        let (noun, id) = (side.noun(), model.dictionary(side).id(row as usize)?);
        let what =
            format!("the model learnt nothing of the {noun} {id:?} that others could be like");
        return Err(Error::new(ErrorKind::UnknownId, what).remedy(format!(
            "ask for {noun}s that have ratings in the training part"
        )));
    }
    let order = |a: &Similar, b: &Similar| b.cosine.total_cmp(&a.cosine).then(a.row.cmp(&b.row));
    let (mut best, mut band) = (Vec::new(), factors.empty_band());
    for rows in factors.bands(0..factors.rows()) {
        let (loaded, first) = factors.load(rows.clone(), &mut band)?;
        let others = rows.into_par_iter().filter(|&other| other != row as usize);
        best.par_extend(others.map(|other| {
            let row = loaded.padded_row(other - first);
            let lengths = own_length * length(row);
            let cosine = match lengths > 0.0 {
                true => (kernel::dot(isa, own, row) / lengths).clamp(-1.0, 1.0),
                false => 0.0,
            };
            let row = other as u32;
            Similar { row, cosine }
        }));
        if top < best.len() {
            best.select_nth_unstable_by(top, order);
            best.truncate(top);
        }
    }
    best.sort_unstable_by(order);
    Ok(best)
}
