//! The usual line, read in one pass: ids, rating and time are digits, and nothing is there but them.
//!
//! Whatever else a line may be, with blanks around its fields, letters in its ids, or columns too many, is left to those who
//! read lines field by field, and give reasons. So is what stands in the last few bytes of a text: digits are looked at in
//! words of eight bytes.

use super::RawRating;
use super::columns::Role;
use super::fields::Split;
use super::number::{DIGITS, digit, digits_value, not_digits, short_decimal};

/// The rating of the line that `text` begins with, and the bytes of the line with its newline, if it is a usual one.
#[inline(always)]
pub(super) fn line<'a>(
    text: &'a [u8],
    split: impl Split,
    roles: &[Role],
) -> Option<(RawRating<'a>, usize)> {
    let mut record = RawRating {
        user: &[],
        item: &[],
        rating: 1.0,
        time: None,
    };
    let mut rest = text;
    for (before, role) in roles.iter().enumerate() {
        if before > 0 {
            rest = &rest[split.delimiter(rest)?..];
        }
        let end = match role {
            Role::Rating => {
                let (rating, end) = rating(rest)?;
                record.rating = rating;
                end
            }
            Role::Time => {
                let (time, end) = time(rest)?;
                record.time = Some(time);
                end
            }
            Role::User | Role::Item | Role::Skip => digits(rest)?,
        };
        let (field, after) = rest.split_at(end);
        match role {
            Role::User => record.user = field,
            Role::Item => record.item = field,
            _ => {}
        }
        rest = after;
    }
    let end = match rest {
        [b'\n', ..] => 1,
        [b'\r', b'\n', ..] => 2,
        _ => return None,
    };
    Some((record, text.len() - rest.len() + end))
}

/// How many digits `text` begins with, if there are any.
#[inline(always)]
fn digits(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let others = not_digits(*text[at..].first_chunk()?);
        let count = others.trailing_zeros() as usize / 8;
        at += count;
        if count < DIGITS {
            return (at > 0).then_some(at);
        }
    }
}

/// The rating that `text` begins with, and its length.
#[inline(always)]
fn rating(text: &[u8]) -> Option<(f32, usize)> {
    // Most are like 3.5.
    if let [_, b'.', _, next, ..] = text
        && digit(*next).is_none()
    {
        return Some((short_decimal(&text[..3])?, 3));
    }
    let mut end = digits(text)?;
    if text[end] == b'.' {
        end += 1 + digits(&text[end + 1..])?;
    }
    Some((short_decimal(&text[..end])?, end))
}

/// The time that `text` begins with, and its length.
#[inline(always)]
fn time(text: &[u8]) -> Option<(i64, usize)> {
    let first = *text.first_chunk()?;
    let count = not_digits(first).trailing_zeros() as usize / 8;
    if count < DIGITS {
        let seconds = i64::from(digits_value(first, count));
        return (count > 0).then_some((seconds, count));
    }
    // 18 digits always fit.
    let mut seconds = i64::from(digits_value(first, DIGITS));
    for (end, &byte) in text.iter().enumerate().take(18 + 1).skip(DIGITS) {
        match digit(byte) {
            Some(digit) if end < 18 => seconds = 10 * seconds + i64::from(digit),
            Some(_) => return None,
            None => return Some((seconds, end)),
        }
    }
    None
}
