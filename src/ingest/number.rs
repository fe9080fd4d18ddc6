//! Numbers in text: ratings and times.

use crate::error::{Error, ErrorKind, Result};

/// A rating: any finite decimal number, rounded to the nearest f32.
#[inline(always)]
pub(super) fn rating(text: &[u8]) -> Result<f32> {
    match short_decimal(text) {
        Some(value) => Ok(value),
        None => any_rating(text),
    }
}

/// Up to three digits, and up to three more after a point. Numerator and denominator are exact as f32, so that their
/// quotient is the nearest f32, the same as [`str::parse`] gives.
#[inline(always)]
pub(super) fn short_decimal(text: &[u8]) -> Option<f32> {
    const POWERS: [f32; 4] = [1.0, 10.0, 100.0, 1000.0];
    let (&first, mut rest) = text.split_first()?;
    let mut numerator = digit(first)?;
    let mut whole = 1;
    while let Some((&byte, more)) = rest.split_first() {
        rest = more;
        if byte == b'.' {
            if rest.is_empty() || rest.len() > 3 {
                return None;
            }
            for &byte in rest {
                numerator = 10 * numerator + digit(byte)?;
            }
            return Some(numerator as f32 / POWERS[rest.len()]);
        }
        whole += 1;
        if whole > 3 {
            return None;
        }
        numerator = 10 * numerator + digit(byte)?;
    }
    Some(numerator as f32)
}

#[inline(always)]
pub(super) fn digit(byte: u8) -> Option<u32> {
    let value = byte.wrapping_sub(b'0');
    (value < 10).then_some(u32::from(value))
}

#[cold]
fn any_rating(text: &[u8]) -> Result<f32> {
    match std::str::from_utf8(text).map(str::parse::<f32>) {
        Ok(Ok(value)) if value.is_finite() => Ok(value),
        Ok(Ok(_)) => Err(bad("the rating", text, "is not finite")),
        _ if text.is_empty() => Err(Error::new(ErrorKind::BadInput, "the rating is empty")),
        _ => Err(bad("the rating", text, "is not a number")),
    }
}

/// A time in whole seconds; a fraction is cut off.
#[inline(always)]
pub(super) fn time(text: &[u8]) -> Result<i64> {
    // 18 digits always fit.
    if text.is_empty() || text.len() > 18 {
        return any_time(text);
    }
    let (mut seconds, rest) = match text.split_first_chunk() {
        Some((first, rest)) => match eight_digits(*first) {
            Some(value) => (i64::from(value), rest),
            None => return any_time(text),
        },
        None => (0, text),
    };
    for &byte in rest {
        match digit(byte) {
            Some(digit) => seconds = 10 * seconds + i64::from(digit),
            None => return any_time(text),
        }
    }
    Ok(seconds)
}

#[inline(always)]
fn eight_digits(text: [u8; DIGITS]) -> Option<u32> {
    (not_digits(text) == 0).then(|| digits_value(text, DIGITS))
}

/// Digits are looked at so many at a time.
pub(super) const DIGITS: usize = 8;
const ZEROS: u64 = u64::from_le_bytes([b'0'; DIGITS]);

/// A word whose lowest set bit lies in the first byte that is not a digit, if one is not.
#[inline(always)]
pub(super) fn not_digits(text: [u8; DIGITS]) -> u64 {
    const SIXES: u64 = u64::from_le_bytes([6; DIGITS]);
    const UPPER: u64 = u64::from_le_bytes([0xf0; DIGITS]);
    // A digit is at most 9: adding 6 does not reach the upper half of its byte, nor carries to the next.
    let digits = u64::from_le_bytes(text) ^ ZEROS;
    (digits | digits.wrapping_add(SIXES)) & UPPER
}

/// The value of the first 1 to 8 bytes, which are digits: neighbours are joined to pairs, pairs to fours, fours to the number.
#[inline(always)]
pub(super) fn digits_value(text: [u8; DIGITS], count: usize) -> u32 {
    // The first digit is in the lowest byte; what is moved out leaves zeros before it.
    let digits = (u64::from_le_bytes(text) ^ ZEROS) << (8 * (DIGITS - count) % 64);
    let pairs = (digits.wrapping_mul(10) + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours * 10_000 + (fours >> 32)) as u32
}

#[cold]
fn any_time(text: &[u8]) -> Result<i64> {
    let text_utf8 = std::str::from_utf8(text).unwrap_or("");
    if let Ok(seconds) = text_utf8.parse::<i64>() {
        return Ok(seconds);
    }
    match text_utf8.parse::<f64>() {
        // Every f64 in this range fits; its ends are powers of two.
        Ok(seconds) if seconds.abs() < i64::MAX as f64 => Ok(seconds as i64),
        _ => Err(bad("the time", text, "is not a number of seconds")
            .remedy("convert it, or pass the column over with _ in --columns")),
    }
}

fn bad(what: &str, text: &[u8], why: &str) -> Error {
    const SHOWN: usize = 40;
    let shown = String::from_utf8_lossy(&text[..text.len().min(SHOWN)]);
    let dots = if text.len() > SHOWN { "..." } else { "" };
    Error::new(
        ErrorKind::BadInput,
        format!("{what} \"{shown}{dots}\" {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_short_decimal_is_the_nearest_f32() {
        let check = |text: &str| {
            let expected: f32 = text.parse().unwrap();
            let value = short_decimal(text.as_bytes());
            assert_eq!(value.map(f32::to_bits), Some(expected.to_bits()), "{text}");
        };
        for whole in 0..1000 {
            check(&format!("{whole}"));
            check(&format!("{whole:03}"));
            for decimals in 1..=3 {
                for fraction in 0..10_u32.pow(decimals) {
                    check(&format!(
                        "{whole}.{fraction:0width$}",
                        width = decimals as usize
                    ));
                }
            }
        }
    }

    #[test]
    fn other_ratings_take_the_long_way_to_the_same_place() {
        for text in [
            "-1.5",
            "+4",
            "1e2",
            "0.0001",
            "12345",
            "5.",
            ".5",
            "3.14159265",
        ] {
            assert_eq!(short_decimal(text.as_bytes()), None);
            assert_eq!(
                rating(text.as_bytes()).unwrap(),
                text.parse::<f32>().unwrap()
            );
        }
        for (text, why) in [
            ("", "the rating is empty"),
            (".", "the rating \".\" is not a number"),
            ("4 stars", "the rating \"4 stars\" is not a number"),
            ("1.2.3", "the rating \"1.2.3\" is not a number"),
            ("NaN", "the rating \"NaN\" is not finite"),
            ("-inf", "the rating \"-inf\" is not finite"),
            ("1e39", "the rating \"1e39\" is not finite"),
        ] {
            assert_eq!(rating(text.as_bytes()).unwrap_err().to_string(), why);
        }
        assert!(rating(b"\xff").is_err());
    }

    #[test]
    fn times_are_whole_seconds() {
        for (text, seconds) in [
            ("0", 0),
            ("964982703", 964_982_703),
            ("-5", -5),
            ("1.9", 1),
            ("-1.9", -1),
            ("1e9", 1_000_000_000),
            ("999999999999999999", 999_999_999_999_999_999),
            ("9223372036854775807", i64::MAX),
        ] {
            assert_eq!(time(text.as_bytes()).unwrap(), seconds, "{text}");
        }
        for text in [
            "",
            "2020-01-01",
            "nan",
            "inf",
            "9223372036854775808",
            "1e300",
        ] {
            let error = time(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("is not a number of seconds"), "{error}");
        }
    }
}
