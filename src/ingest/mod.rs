//! Text and archives into ratings.
//!
//! Reading goes through four stations: [`Input`] opens a file or standard input and undoes its compression, the text is
//! cut into chunks of complete lines, a [`Parser`] turns each chunk into [`RawRating`]s on a thread of its own, and a
//! [`Consumer`] takes them in. A new format is one file with an implementation of [`Format`] and one line in [`FORMATS`].

mod additions;
mod adjacency;
mod archive;
mod build;
mod chunks;
mod collect;
mod columns;
mod delimited;
mod dictionary;
mod fields;
mod ids;
mod import;
mod in_order;
mod input;
mod keys;
mod libmf;
mod matrix_market;
mod merge;
mod movielens;
mod new_users;
mod number;
mod numbering;
mod pairs;
mod parsed;
mod plain;
mod quoted;
mod read;
mod resplit;
mod rows;
mod runs;
mod sink;
mod sort;
mod spill;
mod split;
mod titles;

pub use columns::{Columns, Role};
pub use fields::Delimiter;
pub use ids::read_ids;
pub use import::{Import, Report};
pub use input::Input;
pub use merge::{Grown, Merge, Merged};
pub use new_users::NewUsers;
pub use pairs::read_pairs;
pub use read::{Consumer, InputReport, ReadOptions, ReadReport, read_ratings};
pub use resplit::Resplit;
pub use rows::Duplicates;
pub use sink::Sink;
pub use split::{HoldOut, Split};
pub use titles::{Categories, Titles, bundled_titles, read_categories, read_titles};

use crate::error::{Error, ErrorKind, Result};

/// One rating as the text has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RawRating<'a> {
    /// The user's id as written, without the blanks around it: UTF-8, never empty.
    pub user: &'a [u8],
    /// The item's id, likewise.
    pub item: &'a [u8],
    /// The rating, always finite; 1 where the text gives none.
    pub rating: f32,
    /// When it was given, in seconds, if the text says so.
    pub time: Option<i64>,
}

/// A way to write ratings as text.
pub trait Format: Sync {
    /// The name on the command line.
    fn name(&self) -> &'static str;

    /// What it looks like, in half a line, for help texts.
    fn summary(&self) -> &'static str;

    /// Whether `sample`, the first complete lines of a text, looks like this format.
    fn detect(&self, sample: &[u8]) -> bool;

    /// A parser for the text that begins with `sample`: this is where headers and delimiters are recognised.
    fn parser(&self, sample: &[u8]) -> Result<Box<dyn Parser>>;
}

/// Parses one text of a format. Called once for each chunk, from any thread, in any order.
pub trait Parser: Send + Sync {
    /// How many lines at the start of the text are a header: they are never passed to [`Parser::parse`].
    fn header_lines(&self) -> u64 {
        0
    }

    /// Parses complete lines, usually through [`Sink::lines`].
    fn parse<'a>(&self, chunk: &'a [u8], sink: &mut Sink<'a, '_>);

    /// Checks the number of ratings in the whole text (bad lines count as one each) against what its header promised.
    fn finish(&self, _ratings: u64) -> Result<()> {
        Ok(())
    }
}

/// All formats, in the order in which they are tried on a text of unknown format.
pub const FORMATS: &[&dyn Format] = &[
    &matrix_market::MatrixMarket,
    &movielens::DOUBLE_COLON,
    &movielens::TAB,
    &delimited::Csv,
    &libmf::Libmf,
    &adjacency::Adjacency,
];

/// The format of that name.
pub fn format(name: &str) -> Result<&'static dyn Format> {
    FORMATS
        .iter()
        .copied()
        .find(|format| format.name() == name)
        .ok_or_else(|| {
            let names: Vec<_> = FORMATS.iter().map(|format| format.name()).collect();
            Error::new(ErrorKind::BadOption, format!("no format named \"{name}\""))
                .remedy(format!("choose among auto, {}", names.join(", ")))
        })
}

/// The first format that recognises `sample`.
fn detect(sample: &[u8]) -> Result<&'static dyn Format> {
    FORMATS
        .iter()
        .copied()
        .find(|format| format.detect(sample))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::BadInput,
                "cannot tell the format of these ratings",
            )
            .remedy("name it with --format, or its columns with --columns user,item,rating,time")
        })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::{Path, PathBuf};

    use super::read::tests::{Collected, Owned, collect};
    use super::*;
    use crate::memory::Bytes;

    /// The ratings of every sample in tests/data: user, item, rating, time.
    const SAMPLE: [(&str, &str, f32, i64); 20] = [
        ("7", "3", 5.0, 1_600_073_430),
        ("7", "1", 5.0, 1_600_132_712),
        ("7", "12", 3.0, 1_600_156_975),
        ("2", "1", 5.0, 1_600_239_594),
        ("2", "5", 2.0, 1_600_251_990),
        ("31", "12", 5.0, 1_600_291_817),
        ("31", "4", 2.0, 1_600_303_761),
        ("31", "3", 0.5, 1_600_381_866),
        ("31", "9", 4.5, 1_600_441_300),
        ("4", "1", 2.0, 1_600_523_034),
        ("11", "8", 0.5, 1_600_592_349),
        ("11", "2", 1.5, 1_600_600_214),
        ("11", "5", 0.5, 1_600_625_204),
        ("11", "6", 3.0, 1_600_703_857),
        ("11", "1", 0.5, 1_600_764_725),
        ("6", "10", 4.0, 1_600_822_526),
        ("6", "3", 3.0, 1_600_890_628),
        ("9", "2", 3.0, 1_600_974_612),
        ("9", "12", 3.5, 1_601_040_178),
        ("9", "7", 0.5, 1_601_127_066),
    ];

    /// What of [`SAMPLE`] a format can say.
    fn expected(format: &str) -> Vec<Owned> {
        let ratings = format != "adjacency";
        let times = matches!(format, "csv" | "movielens-dat" | "movielens-100k");
        SAMPLE
            .iter()
            .map(|&(user, item, rating, time)| Owned {
                user: user.to_owned(),
                item: item.to_owned(),
                rating: if ratings { rating } else { 1.0 },
                time: times.then_some(time),
            })
            .collect()
    }

    fn sample(format: &str) -> Vec<u8> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        fs::read(folder.join(format!("ratings.{format}"))).unwrap()
    }

    /// Writes `bytes` to a file and reads it back as ratings of unknown format.
    fn read_back(bytes: &[u8]) -> (Collected, &'static str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ratings");
        fs::write(&path, bytes).unwrap();
        let (collected, report) = collect(&[Input::from(path)], &ReadOptions::default());
        (collected, report.unwrap().inputs[0].format)
    }

    #[test]
    fn every_format_recognises_and_reads_its_own_sample_however_it_is_packed() {
        for format in FORMATS {
            let name = format.name();
            let plain = sample(name);
            let text = String::from_utf8(plain.clone()).unwrap();
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(&plain).unwrap();
            for (packing, bytes) in [
                ("plain", plain.clone()),
                ("carriage returns", text.replace('\n', "\r\n").into_bytes()),
                (
                    "byte order mark",
                    [b"\xef\xbb\xbf", plain.as_slice()].concat(),
                ),
                ("no last newline", text.trim_end().as_bytes().to_vec()),
                ("blank lines", format!("{text}\n  \n\n").into_bytes()),
                ("gzip", gzip.finish().unwrap()),
                ("zstd", zstd::encode_all(plain.as_slice(), 1).unwrap()),
            ] {
                let (collected, detected) = read_back(&bytes);
                assert_eq!(detected, name, "{packing}");
                assert_eq!(collected.ratings, expected(name), "{name}, {packing}");
            }
        }
    }

    #[test]
    fn a_member_of_several_gzip_or_zstd_frames_is_read_to_its_end() {
        let text = sample("libmf");
        let (first, second) = text.split_at(text.len() / 2);
        let gzip = |part: &[u8]| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            gzip.write_all(part).unwrap();
            gzip.finish().unwrap()
        };
        let zstd = |part| zstd::encode_all(part, 3).unwrap();
        for bytes in [
            [gzip(first), gzip(second)].concat(),
            [zstd(first), zstd(second)].concat(),
        ] {
            assert_eq!(read_back(&bytes).0.ratings, expected("libmf"));
        }
    }

    #[test]
    fn names_are_unique_and_find_their_format() {
        for wanted in FORMATS {
            assert_eq!(format(wanted.name()).unwrap().name(), wanted.name());
        }
        let mut names: Vec<_> = FORMATS.iter().map(|format| format.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FORMATS.len());
        let error = format("xml").err().unwrap();
        assert!(
            error
                .to_string()
                .contains("choose among auto, matrix-market")
        );
    }

    #[test]
    fn what_is_no_format_is_not_guessed_at() {
        for text in [
            "It was, all in all, a quiet year.\nNothing, nobody, and so on.\n",
            "movieId,title,genres\n1,Quiet Harbour,Drama\n",
            "1 2 4.0 964982703\n1 3 2.5 964982704\n",
            "1::F::25::15::55117\n2::M::56::16::70072\n",
            "id\n1\n2\n",
        ] {
            let error = detect(text.as_bytes()).err().unwrap();
            assert!(error.to_string().contains("--columns"), "{text}: {error}");
        }
    }

    fn archive(folder: &Path, members: &[(&str, &[u8])]) -> PathBuf {
        let path = folder.join("ratings.zip");
        let mut writer = zip::ZipWriter::new(fs::File::create(&path).unwrap());
        for (name, bytes) in members {
            let options = zip::write::SimpleFileOptions::default();
            writer.start_file(*name, options).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap();
        path
    }

    #[test]
    fn an_archive_is_read_without_unpacking() {
        let folder = tempfile::tempdir().unwrap();
        let movies = b"movieId,title,genres\n3,Paper Lanterns (1954),Drama\n";
        let path = archive(
            folder.path(),
            &[
                ("ml/README.txt", b"read me"),
                ("ml/movies.csv", movies),
                ("ml/ratings.csv", &sample("csv")),
            ],
        );
        let input = Input::from(path.clone());
        let (collected, report) = collect(std::slice::from_ref(&input), &ReadOptions::default());
        assert_eq!(collected.ratings, expected("csv"));
        assert_eq!(report.unwrap().inputs[0].path, path.join("ml/ratings.csv"));
        let titles = bundled_titles(&input, Bytes(1 << 20)).unwrap().unwrap();
        assert_eq!(&*titles["3"], "Paper Lanterns (1954)");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_archive_without_ratings_says_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = archive(
            folder.path(),
            &[("a/notes.txt", b"1"), ("b/old_ratings.csv", b"2")],
        );
        let (_, report) = collect(&[Input::from(path.clone())], &ReadOptions::default());
        let error = report.unwrap_err();
        assert_eq!(error.file(), Some(path.as_path()));
        let error = error.to_string();
        assert!(
            error.contains(
                "the archive has no ratings.csv, ratings.dat, u.data: it has a/notes.txt, b/old_ratings.csv"
            ),
            "{error}"
        );
        let path = archive(
            folder.path(),
            &[("a/ratings.csv", b"1,2,3"), ("b/ratings.csv", b"1,2,3")],
        );
        let (_, report) = collect(&[Input::from(path)], &ReadOptions::default());
        let error = report.unwrap_err().to_string();
        assert!(
            error.contains("both a/ratings.csv and b/ratings.csv"),
            "{error}"
        );
    }
}
