//! The pipeline: text is read once, parsed in parallel, and taken in in the order of its lines.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::chunks::{Batch, Chunks};
use super::columns::Columns;
use super::delimited::Csv;
use super::fields::Delimiter;
use super::parsed::Parsed;
use super::{Format, Input, Parser, RawRating, detect};
use crate::error::{Error, ErrorKind, Result};
use crate::lines::{LONGEST_LINE, longest_line};
use crate::memory::Bytes;

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
    /// The longest line, in bytes: 16 MiB by default, and at most. An import within a budget allows less.
    pub longest_line: usize,
}

impl Default for ReadOptions {
    fn default() -> ReadOptions {
        ReadOptions {
            format: None,
            columns: None,
            delimiter: None,
            skip_bad_lines: false,
            chunk_bytes: 512 << 10,
            longest_line: LONGEST_LINE,
        }
    }
}

impl ReadOptions {
    /// These, with lines no longer than there is room for within a budget.
    #[must_use]
    pub fn within(self, budget: Bytes) -> ReadOptions {
        ReadOptions {
            longest_line: self.longest_line.min(longest_line(budget)),
            ..self
        }
    }
}

/// Takes in parsed ratings: in parallel what needs only a look at what is there already, then in order what changes it.
///
/// For each chunk of text, `begin` and then `ratings`, for a few hundred ratings at a time, run on a thread of the pool;
/// afterwards `commit` is called for one chunk after the other, in the order of the text. How many earlier chunks are
/// committed already when a chunk is parsed depends on the number of threads: what is committed must not depend on it.
/// What chunks have looked up stays valid until all chunks that were parsed beside each other are committed, if only
/// `batch_done` takes anything away.
pub trait Consumer: Send + Sync {
    /// What one chunk of text comes to.
    type Chunk: Send;

    /// An empty chunk.
    fn begin(&self) -> Self::Chunk;

    /// Adds the next ratings of a chunk's text. Ids last until the call returns.
    fn ratings(&self, chunk: &mut Self::Chunk, ratings: &[RawRating<'_>]);

    /// Takes in a chunk, after all earlier ones.
    fn commit(&mut self, chunk: Self::Chunk) -> Result<()>;

    /// Called when every chunk that was begun is committed, with the number of bytes of text read from all inputs so far,
    /// decompressed.
    fn batch_done(&mut self, _bytes: u64) -> Result<()> {
        Ok(())
    }
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
    /// Users who are named and have no item, and so are left out.
    pub empty_users: u64,
    /// Why the first few bad lines could not be read, with their numbers.
    pub reasons: Vec<Error>,
    /// The number of bytes of text, decompressed.
    pub bytes: u64,
}

/// Reads every input once and hands its ratings to `consumer`.
///
/// Runs on the thread pool it is called in. While one batch of chunks (two for each thread) is committed and the next is
/// parsed, the one after it is read, so up to `4 * threads * chunk_bytes` of text are in memory, 2 MiB for each thread by
/// default; a chunk holds at least one line, and lines of up to 16 MiB are allowed.
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
    let mut chunks = Chunks::new(
        text,
        options.chunk_bytes,
        options.longest_line.min(LONGEST_LINE),
    );
    let (format, parser) = choose_parser(chunks.sample()?, options)?;
    let header_lines = parser.header_lines();
    chunks.skip_lines(header_lines);

    let mut report = InputReport {
        path: path.to_owned(),
        format,
        lines: header_lines,
        ratings: 0,
        bad_lines: 0,
        empty_users: 0,
        reasons: Vec::new(),
        bytes: 0,
    };
    let batch_len = 2 * rayon::current_num_threads();
    let (mut batch, mut next) = (Batch::default(), Batch::default());
    chunks.fill(&mut batch, batch_len);
    let mut parsed: Option<Parsed<C::Chunk>> = None;
    while !batch.is_empty() || parsed.is_some() {
        // What must be done in order takes one thread; the other reads meanwhile.
        let ((), ahead): (_, Result<_>) = rayon::join(
            || chunks.fill(&mut next, batch_len),
            || {
                if let Some(parsed) = parsed.take() {
                    let bytes = parsed.commit(options, consumer, &mut report)?;
                    consumer.batch_done(bytes_before + bytes)?;
                }
                let some = !batch.is_empty();
                Ok(some.then(|| Parsed::new(&mut batch, &*parser, options, consumer)))
            },
        );
        parsed = ahead?;
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

fn no_ratings() -> Error {
    Error::new(ErrorKind::BadInput, "no ratings in it")
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::io::Write;

    use super::super::format;
    use super::super::sink::REASONS;
    use super::*;
    use crate::threads::Threads;

    /// A rating that outlives its chunk.
    #[derive(Debug, Clone, PartialEq)]
    pub(in crate::ingest) struct Owned {
        pub(in crate::ingest) user: String,
        pub(in crate::ingest) item: String,
        pub(in crate::ingest) rating: f32,
        pub(in crate::ingest) time: Option<i64>,
    }

    /// Keeps all ratings, in the order in which they are committed.
    #[derive(Default)]
    pub(in crate::ingest) struct Collected {
        pub(in crate::ingest) ratings: Vec<Owned>,
        chunks: usize,
        progress: u64,
    }

    impl Consumer for Collected {
        type Chunk = Vec<Owned>;

        fn begin(&self) -> Vec<Owned> {
            Vec::new()
        }

        fn ratings(&self, chunk: &mut Vec<Owned>, ratings: &[RawRating<'_>]) {
            let text = |id: &[u8]| String::from_utf8(id.to_vec()).unwrap();
            chunk.extend(ratings.iter().map(|rating| Owned {
                user: text(rating.user),
                item: text(rating.item),
                rating: rating.rating,
                time: rating.time,
            }));
        }

        fn commit(&mut self, chunk: Vec<Owned>) -> Result<()> {
            self.chunks += 1;
            self.ratings.extend(chunk);
            Ok(())
        }

        fn batch_done(&mut self, bytes: u64) -> Result<()> {
            assert!(bytes >= self.progress);
            self.progress = bytes;
            Ok(())
        }
    }

    pub(in crate::ingest) fn collect(
        inputs: &[Input],
        options: &ReadOptions,
    ) -> (Collected, Result<ReadReport>) {
        let mut collected = Collected::default();
        let report = read_ratings(inputs, options, &mut collected);
        (collected, report)
    }

    /// Reads one text through a file.
    fn read(text: &[u8], options: &ReadOptions) -> (Collected, Result<InputReport>) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        let (collected, report) = collect(&[Input::from(file.path())], options);
        (collected, report.map(|mut report| report.inputs.remove(0)))
    }

    fn options(chunk_bytes: usize) -> ReadOptions {
        ReadOptions {
            chunk_bytes,
            ..ReadOptions::default()
        }
    }

    /// `user,item,rating` without a header; line n, from 1, is of user n.
    fn lines(count: usize) -> String {
        (1..=count)
            .map(|n| format!("{n},{},{}\n", n % 7, n % 5))
            .collect()
    }

    #[test]
    fn chunks_and_threads_change_nothing() {
        let text = lines(3000);
        let (expected, report) = read(text.as_bytes(), &options(1 << 20));
        assert_eq!(expected.chunks, 1);
        assert_eq!(expected.progress, text.len() as u64);
        let report = report.unwrap();
        assert_eq!((report.lines, report.ratings), (3000, 3000));
        assert_eq!(report.bytes, text.len() as u64);
        for threads in [1, 2, 5] {
            let pool = Threads::new(Some(threads)).unwrap();
            for chunk_bytes in [1, 10, 100, 1000, 10_000] {
                let (collected, again) = pool.run(|| read(text.as_bytes(), &options(chunk_bytes)));
                assert_eq!(collected.ratings, expected.ratings);
                assert!(collected.chunks >= text.len() / chunk_bytes.max(10));
                assert_eq!(again.unwrap().lines, 3000);
            }
        }
    }

    #[test]
    fn every_bad_line_is_named_by_its_number_in_any_chunk() {
        for (bad, message) in [
            (&b"5,6"[..], "only 2 columns of 3"),
            (b"5,6,four", "the rating \"four\" is not a number"),
            (b"5,6,", "the rating is empty"),
            (b"5,6,NaN", "the rating \"NaN\" is not finite"),
            (b"5,6,inf", "the rating \"inf\" is not finite"),
            (b"5,6,1e40", "the rating \"1e40\" is not finite"),
            (b",6,1", "the user's id is empty"),
            (b"5, ,1", "the item's id is empty"),
            (b"5,caf\xe9,1", "the item's id \"caf\u{fffd}\" is not UTF-8"),
            (b"5,\"6,1", "a quoted field does not end on its line"),
        ] {
            for line in [1, 2, 499, 777, 1000] {
                let mut text = lines(line - 1).into_bytes();
                text.extend_from_slice(bad);
                text.extend_from_slice(b"\n");
                text.extend_from_slice(lines(1000 - line).as_bytes());
                for chunk_bytes in [64, 4096, 1 << 20] {
                    let (_, report) = read(&text, &options(chunk_bytes));
                    let error = report.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::BadInput);
                    assert!(error.file().is_some());
                    let error = error.to_string();
                    assert!(error.contains(&format!(":{line}: {message}")), "{error}");

                    let skipping = ReadOptions {
                        skip_bad_lines: true,
                        ..options(chunk_bytes)
                    };
                    let (collected, report) = read(&text, &skipping);
                    let report = report.unwrap();
                    assert_eq!(collected.ratings.len(), 999);
                    assert_eq!((report.ratings, report.bad_lines), (999, 1));
                    let reason = report.reasons[0].to_string();
                    assert!(reason.contains(&format!(":{line}: {message}")), "{reason}");
                }
            }
        }
    }

    #[test]
    fn bad_times_are_named_too_and_headers_count_as_lines() {
        let text = "userId,movieId,rating,timestamp\n\n1,2,3,4\n1,2,3,2020-01-01\n";
        let (_, report) = read(text.as_bytes(), &options(1 << 20));
        let error = report.unwrap_err().to_string();
        assert!(
            error.contains(":4: the time \"2020-01-01\" is not"),
            "{error}"
        );
    }

    #[test]
    fn only_the_first_reasons_are_kept() {
        let text = "1,2,3\n".to_owned() + &"1,2\n1,2,3\n1,2,3\n".repeat(100);
        let skipping = ReadOptions {
            skip_bad_lines: true,
            ..options(64)
        };
        let (_, report) = read(text.as_bytes(), &skipping);
        let report = report.unwrap();
        assert_eq!(
            (report.lines, report.ratings, report.bad_lines),
            (301, 201, 100)
        );
        let named: Vec<_> = report
            .reasons
            .iter()
            .map(|e| e.position().unwrap())
            .collect();
        let expected: Vec<_> = (0..REASONS as u64)
            .map(|n| crate::error::Position::Line(2 + 3 * n))
            .collect();
        assert_eq!(named, expected);
    }

    #[test]
    fn nothing_is_no_ratings() {
        for text in ["", "\n\n", "userId,movieId,rating\n", "\u{feff}"] {
            let (_, report) = read(text.as_bytes(), &options(1 << 20));
            let error = report.unwrap_err().to_string();
            assert!(error.ends_with("no ratings in it"), "{error}");
        }
        let missing = Input::from("/no/such/file");
        let error = collect(&[missing], &options(1)).1.unwrap_err();
        assert_eq!(
            error.to_string(),
            "/no/such/file: no such file or directory"
        );
    }

    #[test]
    fn what_is_not_text_is_refused() {
        let (_, report) = read(b"1\x00,\x002\x00,\x003\x00\n\x00", &options(1 << 20));
        let error = report.unwrap_err().to_string();
        assert!(error.contains("this is not text in UTF-8"), "{error}");
    }

    #[test]
    fn compressed_text_that_is_cut_short_is_an_error() {
        let text = lines(5000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        for packed in [
            gzip.finish().unwrap(),
            zstd::encode_all(text.as_bytes(), 1).unwrap(),
        ] {
            let (_, report) = read(&packed[..packed.len() - 20], &options(1 << 20));
            let error = report.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadInput);
            assert!(
                error.to_string().contains("cannot be decompressed"),
                "{error}"
            );
        }
    }

    #[test]
    fn given_columns_and_delimiters_are_followed() {
        let with = |columns: &str, delimiter: Option<&str>| ReadOptions {
            columns: Some(columns.parse().unwrap()),
            delimiter: delimiter.map(|name| name.parse().unwrap()),
            ..ReadOptions::default()
        };
        let ann = Owned {
            user: "ann".into(),
            item: "tea".into(),
            rating: 4.5,
            time: None,
        };
        for (text, options) in [
            ("4.5;x;tea;ann\n", with("rating,_,item,user", None)),
            (
                "stars|what|who\n4.5|tea|ann|!\n",
                with("rating,item,user", None),
            ),
            ("ann  tea\t4.5 \n", with("user,item,rating", None)),
            ("ann::tea::4.5\n", with("user,item,rating", Some("::"))),
        ] {
            let (collected, report) = read(text.as_bytes(), &options);
            report.unwrap();
            assert_eq!(collected.ratings, std::slice::from_ref(&ann), "{text}");
        }
        let (collected, report) = read(b"ann;tea\nbob;milk\n", &with("user,item", None));
        report.unwrap();
        assert!(collected.ratings.iter().all(|rating| rating.rating == 1.0));
        assert_eq!(collected.ratings.len(), 2);

        let clash = ReadOptions {
            format: Some(format("libmf").unwrap()),
            ..with("user,item", None)
        };
        let error = read(b"1 2 3\n", &clash).1.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadOption);
    }

    #[test]
    fn a_header_without_a_rating_says_so() {
        let text = "userId,movieId,tag,timestamp\n1,2,funny,3\n";
        let error = read(text.as_bytes(), &options(100))
            .1
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(":1: no column is known as the rating"),
            "{error}"
        );
    }

    #[test]
    fn a_failure_to_commit_ends_the_reading() {
        struct Full(usize);
        impl Consumer for Full {
            type Chunk = ();
            fn begin(&self) {}
            fn ratings(&self, _: &mut (), _: &[RawRating<'_>]) {}
            fn commit(&mut self, _: ()) -> Result<()> {
                self.0 += 1;
                if self.0 < 3 {
                    return Ok(());
                }
                Err(Error::new(ErrorKind::OverBudget, "full"))
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ratings");
        fs::write(&path, lines(3000)).unwrap();
        let mut full = Full(0);
        let error = read_ratings(&[Input::from(path)], &options(100), &mut full).unwrap_err();
        assert_eq!((error.kind(), full.0), (ErrorKind::OverBudget, 3));
    }
}
