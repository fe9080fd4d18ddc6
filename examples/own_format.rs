//! An input format of your own: how it looks, and what a line of it says.
//!
//! This one reads lines like `ann gave Paper Lanterns 4.5`. Opening, decompressing, cutting into chunks, threads and line
//! numbers in messages are not its business.

use lowrank::ingest::{
    Duplicates, Format, Import, Input, Parser, RawRating, ReadOptions, Sink, Split,
};
use lowrank::store::Encoding;
use lowrank::{Error, ErrorKind, Part, Ratings, Result, Store, Threads};

struct Gave;

impl Format for Gave {
    fn name(&self) -> &'static str {
        "gave"
    }

    fn summary(&self) -> &'static str {
        "lines such as: ann gave Paper Lanterns 4.5"
    }

    fn detect(&self, sample: &[u8]) -> bool {
        sample
            .split(|&byte| byte == b'\n')
            .next()
            .is_some_and(|line| rating(line).is_ok())
    }

    fn parser(&self, _sample: &[u8]) -> Result<Box<dyn Parser>> {
        Ok(Box::new(Gave))
    }
}

impl Parser for Gave {
    fn parse<'a>(&self, chunk: &'a [u8], sink: &mut Sink<'a, '_>) {
        sink.lines(chunk, |line, sink| {
            sink.push(rating(line)?);
            Ok(())
        });
    }
}

/// What one line says. The file and the number of the line are added to the error by whoever asked.
fn rating(line: &[u8]) -> Result<RawRating<'_>> {
    let read = || {
        let (user, rest) = str::from_utf8(line).ok()?.trim().split_once(" gave ")?;
        let (item, rating) = rest.rsplit_once(' ')?;
        let rating = rating
            .parse()
            .ok()
            .filter(|rating: &f32| rating.is_finite())?;
        Some(RawRating {
            user: user.as_bytes(),
            item: item.as_bytes(),
            rating,
            time: None,
        })
    };
    read().ok_or_else(|| Error::new(ErrorKind::BadInput, "this is not USER gave ITEM RATING"))
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    let at = |name: &str| folder.path().join(name);
    let import = |text: &str, out: &str| {
        std::fs::write(at("ratings"), text).expect("the folder can be written to");
        let import = Import {
            inputs: vec![Input::File(at("ratings"))],
            read: ReadOptions {
                format: Some(&Gave),
                ..ReadOptions::default()
            },
            test: None,
            split: Split::default(),
            duplicates: Duplicates::Last,
            times: false,
            titles: None,
            encoding: Encoding::default(),
            shard_bytes: 64 << 20,
            memory: None,
            force: false,
        };
        import.run(&at(out), &Threads::new(None)?, &())
    };

    import(
        "ann gave Paper Lanterns 4.5\nben gave Quiet Harbour 3\nann gave Quiet Harbour 2\n",
        "store",
    )?;
    let store = Store::open(at("store"))?;
    println!("{:?}", store.shape());
    assert_eq!(store.shape().ratings, 3);
    assert!(store.part(Part::Test).is_none());

    // A line that cannot be read is named.
    let error = import("ann gave Paper Lanterns 4.5\nben took it away\n", "other")
        .expect_err("line 2 is bad");
    println!("{error}");
    assert!(
        error
            .to_string()
            .contains("ratings:2: this is not USER gave ITEM RATING")
    );
    Ok(())
}
