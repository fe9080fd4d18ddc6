//! The pipeline: text is read once, parsed in parallel, and taken in in the order of its lines.

use std::io::Read;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::chunks::{Batch, Chunk, Chunks};
use super::columns::Columns;
use super::delimited::{Csv, Delimiter};
use super::sink::{REASONS, Sink, Tally};
use super::{Format, Input, Parser, RawRating, detect};
use crate::error::{Error, ErrorKind, Result};

/// The members of a zip archive that hold ratings, the first that occurs is read.
const RATINGS: &[&str] = &["ratings.csv", "ratings.dat", "u.data"];

/// How to read ratings.
#[derive(Clone)]
pub struct ReadOptions {
    /// The format of every input; none to recognise each by its content.
    pub format: Option<&'static dyn Format>,
    /// What the columns of delimited text mean, in file order; none to go by the header, or else by their number.
    pub columns: Option<Columns>,
    /// What separates the columns of delimited text; none to recognise it.
    pub delimiter: Option<Delimiter>,
    /// Whether lines that cannot be read are counted rather than an error. A line that is too long always is one.
    pub skip_bad_lines: bool,
    /// The size of a chunk, in bytes: 512 KiB by default. The ratings do not depend on it.
    pub chunk_bytes: usize,
}

impl Default for ReadOptions {
    fn default() -> ReadOptions {
        ReadOptions {
            format: None,
            columns: None,
            delimiter: None,
            skip_bad_lines: false,
            chunk_bytes: 512 << 10,
        }
    }
}

/// Takes in parsed ratings: in parallel what needs only a look at what is there already, then in order what changes it.
///
/// For each chunk of text, `begin` and then `ratings`, for a few hundred ratings at a time, run on a thread of the pool;
/// afterwards `commit` is called for one chunk after the other, in the order of the text. How many earlier chunks are
/// committed already when a chunk is parsed depends on the number of threads: what is committed must not depend on it.
pub trait Consumer: Send + Sync {
    /// What one chunk of text comes to.
    type Chunk: Send;

    /// An empty chunk.
    fn begin(&self) -> Self::Chunk;

    /// Adds the next ratings of a chunk's text. Ids last until the call returns.
    fn ratings(&self, chunk: &mut Self::Chunk, ratings: &[RawRating<'_>]);

    /// Takes in a chunk, after all earlier ones.
    fn commit(&mut self, chunk: Self::Chunk) -> Result<()>;

    /// Called now and then with the number of bytes of text read from all inputs so far, decompressed.
    fn progress(&mut self, _bytes: u64) {}
}

/// What was read.
#[derive(Debug, Default)]
pub struct ReadReport {
    /// One report for each input, in their order.
    pub inputs: Vec<InputReport>,
}

impl ReadReport {
    /// The number of ratings in all inputs.
    pub fn ratings(&self) -> u64 {
        self.inputs.iter().map(|input| input.ratings).sum()
    }

    /// The number of bad lines in all inputs.
    pub fn bad_lines(&self) -> u64 {
        self.inputs.iter().map(|input| input.bad_lines).sum()
    }

    /// The number of bytes of text in all inputs, decompressed.
    pub fn bytes(&self) -> u64 {
        self.inputs.iter().map(|input| input.bytes).sum()
    }
}

/// What was read from one input.
#[derive(Debug)]
pub struct InputReport {
    /// The file, or the archive and its member.
    pub path: PathBuf,
    /// The name of its format.
    pub format: &'static str,
    /// The number of lines, header and blank lines included.
    pub lines: u64,
    /// The number of ratings.
    pub ratings: u64,
    /// The number of lines that could not be read.
    pub bad_lines: u64,
    /// Why the first few of them could not, with their numbers.
    pub reasons: Vec<Error>,
    /// The number of bytes of text, decompressed.
    pub bytes: u64,
}

/// Reads every input once and hands its ratings to `consumer`.
///
/// Runs on the thread pool it is called in. While one batch of chunks (two for each thread) is parsed and committed the
/// next is read, so up to `4 * threads * chunk_bytes` of text are in memory, 2 MiB for each thread by default; a chunk
/// holds at least one line, and lines of up to 16 MiB are allowed.
pub fn read_ratings<C: Consumer>(
    inputs: &[Input],
    options: &ReadOptions,
    consumer: &mut C,
) -> Result<ReadReport> {
    let mut report = ReadReport::default();
    for input in inputs {
        let bytes_before = report.bytes();
        let read = input.with_text(RATINGS, |path, text| {
            read_text(path, text, options, consumer, bytes_before).map_err(|e| e.path(path))
        })?;
        report.inputs.push(read);
    }
    Ok(report)
}

fn read_text<C: Consumer>(
    path: &Path,
    text: &mut (dyn Read + Send),
    options: &ReadOptions,
    consumer: &mut C,
    bytes_before: u64,
) -> Result<InputReport> {
    let mut chunks = Chunks::new(text, options.chunk_bytes);
    let (format, parser) = choose_parser(chunks.sample()?, options)?;
    let header_lines = parser.header_lines();
    chunks.skip_lines(header_lines);

    let mut report = InputReport {
        path: path.to_owned(),
        format,
        lines: header_lines,
        ratings: 0,
        bad_lines: 0,
        reasons: Vec::new(),
        bytes: 0,
    };
    let batch_len = 2 * rayon::current_num_threads();
    let (mut batch, mut next) = (Batch::default(), Batch::default());
    chunks.fill(&mut batch, batch_len);
    while !batch.is_empty() {
        let ((), taken) = rayon::join(
            || chunks.fill(&mut next, batch_len),
            || take_in(&mut batch, &*parser, options, consumer, &mut report),
        );
        taken?;
        consumer.progress(bytes_before + chunks.bytes());
        std::mem::swap(&mut batch, &mut next);
    }
    report.bytes = chunks.bytes();
    if report.ratings == 0 {
        // Where every line was skipped, the first says why.
        return Err(report.reasons.into_iter().next().unwrap_or_else(no_ratings));
    }
    parser.finish(report.ratings + report.bad_lines)?;
    Ok(report)
}

fn choose_parser(sample: &[u8], options: &ReadOptions) -> Result<(&'static str, Box<dyn Parser>)> {
    if sample.trim_ascii().is_empty() {
        return Err(no_ratings());
    }
    if sample.contains(&0) {
        return Err(Error::new(ErrorKind::BadInput, "this is not text in UTF-8")
            .remedy("give text, or text compressed by gzip, zstd or zip"));
    }
    if options.columns.is_some() || options.delimiter.is_some() {
        if let Some(other) = options.format.filter(|format| format.name() != Csv.name()) {
            return Err(Error::new(
                ErrorKind::BadOption,
                format!("the columns of {} are fixed", other.name()),
            )
            .remedy("leave out --format, or --columns"));
        }
        let columns = options.columns.as_ref();
        return Ok((Csv.name(), Csv::open(sample, columns, options.delimiter)?));
    }
    let format = match options.format {
        Some(format) => format,
        None => detect(sample)?,
    };
    Ok((format.name(), format.parser(sample)?))
}

/// Parses a batch in parallel, then commits it in order.
fn take_in<C: Consumer>(
    batch: &mut Batch,
    parser: &dyn Parser,
    options: &ReadOptions,
    consumer: &mut C,
    report: &mut InputReport,
) -> Result<()> {
    let shared = &*consumer;
    let parsed: Vec<(Tally, C::Chunk)> = batch
        .chunks()
        .par_iter()
        .map(|text| parse(text, parser, options.skip_bad_lines, shared))
        .collect();
    for (tally, chunk) in parsed {
        report.lines += tally.lines;
        report.ratings += tally.ratings;
        report.bad_lines += tally.bad_lines;
        let mut reasons = tally.reasons.into_iter();
        if !options.skip_bad_lines
            && let Some(error) = reasons.next()
        {
            return Err(error);
        }
        let room = REASONS - report.reasons.len();
        let reasons = reasons.take(room).map(|error| error.path(&report.path));
        report.reasons.extend(reasons);
        consumer.commit(chunk)?;
    }
    batch.take_failure().map_or(Ok(()), Err)
}

fn parse<C: Consumer>(
    text: &Chunk,
    parser: &dyn Parser,
    skip_bad_lines: bool,
    consumer: &C,
) -> (Tally, C::Chunk) {
    let mut chunk = consumer.begin();
    let mut deliver = |ratings: &[RawRating<'_>]| consumer.ratings(&mut chunk, ratings);
    let mut sink = Sink::new(text.first_line, skip_bad_lines, &mut deliver);
    parser.parse(&text.text, &mut sink);
    let tally = sink.finish();
    (tally, chunk)
}

fn no_ratings() -> Error {
    Error::new(ErrorKind::BadInput, "no ratings in it")
}
