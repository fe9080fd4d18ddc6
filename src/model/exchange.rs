//! Factors out to and in from other programs: CSV with the user's ids, or a NumPy array.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::Model;
use crate::error::{AtPath, Error, ErrorKind, Result};
use crate::lines::Records;
use crate::matrix::{Factors, Side};
use crate::memory::{Bytes, Plan};
use crate::rng::{key, mix};
use crate::solver::Options;
use crate::store::{AtomicFile, Dictionary};

/// How factors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactorTable {
    /// Text with the header `id,f0,f1,...,bias`; numbers in the shortest form that reads back to the same f32.
    Csv,
    /// A one-dimensional NumPy array of records with the fields `id`, `factors` and `bias`.
    Npy,
}

impl FactorTable {
    /// By the extension: `.npy`, or CSV.
    pub fn of(path: &Path) -> FactorTable {
        match path.extension() {
            Some(extension) if extension == "npy" => FactorTable::Npy,
            _ => FactorTable::Csv,
        }
    }
}

/// Writes one side's factors, and biases if the model has them, with the user's ids, in the model's order.
///
/// # Errors
/// If the file exists and `force` is false, or it cannot be written.
pub fn export_factors(model: &Model, side: Side, path: &Path, force: bool) -> Result<()> {
    let factors = model.factors(side)?;
    let ids = model.dictionary(side);
    let mut file = AtomicFile::create(path, force)?;
    let mut out = BufWriter::with_capacity(1 << 16, &mut file);
    match FactorTable::of(path) {
        FactorTable::Csv => write_csv(&mut out, factors, ids),
        FactorTable::Npy => write_npy(&mut out, factors, ids),
    }
    .and_then(|()| out.flush().at(path))
    .map_err(|e| e.path(path))?;
    drop(out);
    file.commit()
}

fn write_csv(out: &mut impl Write, factors: &Factors, ids: &Dictionary) -> Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    let names = (0..factors.rank()).map(|k| format!("f{k}"));
    let header = std::iter::once("id".to_owned()).chain(names);
    let bias = factors.has_biases().then(|| "bias".to_owned());
    writer.write_record(header.chain(bias))?;
    each_row(factors, ids, |id, row, bias| {
        writer.write_field(id)?;
        for number in row.iter().copied().chain(bias) {
            writer.write_field(number.to_string())?;
        }
        Ok(writer.write_record(None::<&[u8]>)?)
    })?;
    writer.flush()?;
    Ok(())
}

/// Shows every id with its factors, and its bias if there is one, in order. Of what is not in memory, a band is at a time.
fn each_row(
    factors: &Factors,
    ids: &Dictionary,
    mut visit: impl FnMut(&str, &[f32], Option<f32>) -> Result<()>,
) -> Result<()> {
    let mut band = factors.empty_band();
    for rows in factors.bands(0..factors.rows()) {
        let (loaded, first) = factors.load(rows.clone(), &mut band)?;
        for row in rows {
            let at = row - first;
            let bias = loaded.has_biases().then(|| loaded.bias(at));
            visit(ids.id(row)?, loaded.row(at), bias)?;
        }
        ids.release();
    }
    Ok(())
}

/// Format version 1.0 of NumPy's NEP 1: a magic string, the length of a header, the header as a Python literal padded so
/// that the data is aligned to 64 bytes, then the records in little-endian.
fn write_npy(out: &mut impl Write, factors: &Factors, ids: &Dictionary) -> Result<()> {
    let mut width = 1;
    for rows in factors.bands(0..ids.len()) {
        for row in rows {
            width = width.max(ids.id(row)?.chars().count());
        }
        ids.release();
    }
    let bias = if factors.has_biases() {
        ", ('bias', '<f4')"
    } else {
        ""
    };
    let mut header = format!(
        "{{'descr': [('id', '<U{width}'), ('factors', '<f4', ({},)){bias}], 'fortran_order': False, 'shape': ({},), }}",
        factors.rank(),
        factors.rows(),
    );
    let start = b"\x93NUMPY\x01\x00".len() + 2;
    let padded = (start + header.len() + 1).next_multiple_of(64) - start;
    header.extend(std::iter::repeat_n(' ', padded - 1 - header.len()));
    header.push('\n');
    out.write_all(b"\x93NUMPY\x01\x00")?;
    out.write_all(&(padded as u16).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    each_row(factors, ids, |id, row, bias| {
        let mut id = id.chars();
        for _ in 0..width {
            let character = id.next().map_or(0, u32::from);
            out.write_all(&character.to_le_bytes())?;
        }
        for number in row.iter().copied().chain(bias) {
            out.write_all(&number.to_le_bytes())?;
        }
        Ok(())
    })
}

/// Reads the factors that training shall start from: CSV lines of an id and its factors, with a header or without; a
/// column named `bias` is a bias. Gives the factors by the dictionary's numbers, and a fingerprint of them.
///
/// # Errors
/// If an id of the dictionary is missing or twice in the file, or lines differ in length or hold what is not a number; if the
/// factors, or a line, take more than a budget.
pub fn read_start(
    path: &Path,
    ids: &Dictionary,
    biases: bool,
    budget: Bytes,
) -> Result<(Factors, u64)> {
    let mut records = Records::new(File::open(path).at(path)?, budget);
    let mut layout: Option<Layout> = None;
    let mut factors = Factors::zeros(0, 1, false);
    let mut given = vec![false; ids.len()];
    let mut fingerprint = 0_u64;
    let bad = |line: u64, message: String| {
        Error::new(ErrorKind::BadInput, message)
            .path(path)
            .line(line)
    };
    while let Some((line, record)) = records.next().map_err(|e| e.path(path))? {
        let layout = match &layout {
            Some(layout) => layout,
            None => {
                let found = Layout::of(record).map_err(|what| bad(line, what))?;
                if found.bias.is_some() && !biases {
                    return Err(
                        bad(line, "there are biases here, and the model has none".into())
                            .remedy("leave out the column, or --no-biases"),
                    );
                }
                let mut plan = Plan::new(budget);
                let bytes = Factors::bytes(ids.len(), found.rank, biases);
                plan.hold("the factors to start from", bytes);
                plan.rest(0)?;
                factors = Factors::zeros(ids.len(), found.rank, biases);
                let found = layout.insert(found);
                if found.header {
                    continue;
                }
                found
            }
        };
        let fields = 1 + layout.rank + usize::from(layout.bias.is_some());
        if record.len() != fields {
            let what = format!("{} columns where there should be {fields}", record.len());
            return Err(bad(line, what));
        }
        let Some(row) = ids.lookup(&record[0])? else {
            continue;
        };
        let row = row as usize;
        if std::mem::replace(&mut given[row], true) {
            return Err(bad(
                line,
                format!("{:?} is here for the second time", &record[0]),
            ));
        }
        let mut hash = key(record[0].as_bytes());
        let mut into = 0;
        for (column, text) in record.iter().enumerate().skip(1) {
            let number = text.parse::<f32>().ok().filter(|x| x.is_finite());
            let number = number.ok_or_else(|| bad(line, format!("{text:?} is not a number")))?;
            hash = mix(hash, u64::from(number.to_bits()));
            if layout.bias == Some(column) {
                factors.biases_mut()[row] = number;
            } else {
                factors.row_mut(row)[into] = number;
                into += 1;
            }
        }
        fingerprint = fingerprint.wrapping_add(hash);
    }
    if layout.is_none() {
        return Err(Error::new(ErrorKind::BadInput, "no factors in it").path(path));
    }
    if let Some(row) = given.iter().position(|&given| !given) {
        let missing = given.iter().filter(|&&given| !given).count();
        let what = format!(
            "{missing} of {} {}s have no factors here, {:?} among them",
            ids.len(),
            ids.side().noun(),
            ids.id(row)?
        );
        return Err(Error::new(ErrorKind::BadInput, what).path(path));
    }
    Ok((factors, fingerprint))
}

/// What the columns of a file of factors are.
struct Layout {
    rank: usize,
    bias: Option<usize>,
    header: bool,
}

impl Layout {
    fn of(first: &csv::StringRecord) -> Result<Layout, String> {
        if first.len() < 2 {
            return Err("a line needs an id and at least one factor".into());
        }
        let header = first
            .iter()
            .skip(1)
            .any(|field| field.parse::<f32>().is_err());
        let bias = first
            .iter()
            .position(|field| header && field.eq_ignore_ascii_case("bias"));
        let rank = first.len() - 1 - usize::from(bias.is_some());
        if rank == 0 {
            return Err("there is no column of factors".into());
        }
        if rank > Options::MAX_RANK {
            let most = Options::MAX_RANK;
            return Err(format!(
                "{rank} columns of factors, and {most} are the most"
            ));
        }
        Ok(Layout { rank, bias, header })
    }
}
