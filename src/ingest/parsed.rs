//! A batch of text on its way to a consumer: parsed by all threads, committed in order by one.

use rayon::prelude::*;

use super::chunks::{Batch, Chunk};
use super::read::{Consumer, InputReport, ReadOptions};
use super::sink::{REASONS, Sink, Tally};
use super::{Parser, RawRating};
use crate::error::{Error, Result};

/// What a batch came to.
pub(super) struct Parsed<C> {
    chunks: Vec<(Tally, C)>,
    failure: Option<Error>,
    /// Bytes of text up to its end.
    bytes: u64,
}

impl<C: Send> Parsed<C> {
    /// Parses the chunks of a batch in parallel.
    pub(super) fn new(
        batch: &mut Batch,
        parser: &dyn Parser,
        options: &ReadOptions,
        consumer: &impl Consumer<Chunk = C>,
    ) -> Parsed<C> {
        let texts = batch.chunks().par_iter().with_max_len(1);
        Parsed {
            chunks: texts
                .map(|text| parse(text, parser, options.skip_bad_lines, consumer))
                .collect(),
            failure: batch.take_failure(),
            bytes: batch.bytes(),
        }
    }

    /// Commits chunk by chunk, up to the failure that ended the text; gives the bytes of text up to the batch's end.
    pub(super) fn commit(
        self,
        options: &ReadOptions,
        consumer: &mut impl Consumer<Chunk = C>,
        report: &mut InputReport,
    ) -> Result<u64> {
        for (tally, chunk) in self.chunks {
            report.lines += tally.lines;
            report.ratings += tally.ratings;
            report.bad_lines += tally.bad_lines;
            report.empty_users += tally.empty_users;
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
        self.failure.map_or(Ok(self.bytes), Err)
    }
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
