//! Ratings as lines of text.

use super::generator::Rating;

/// The first line, as in MovieLens.
pub(super) const HEADER: &[u8] = b"userId,movieId,rating,timestamp\n";

/// Appends a user's ratings, one a line. Numbers of users and items are written from 1.
pub(super) fn push_lines(out: &mut Vec<u8>, user: u32, ratings: &[Rating], half_stars: bool) {
    let start = out.len();
    push_number(out, u64::from(user) + 1);
    out.push(b',');
    let prefix = start..out.len();
    for (i, rating) in ratings.iter().enumerate() {
        if i > 0 {
            out.extend_from_within(prefix.clone());
        }
        push_number(out, u64::from(rating.item) + 1);
        out.push(b',');
        out.push(b'0' + rating.value as u8);
        if half_stars {
            let half = rating.value.fract() > 0.0;
            out.extend_from_slice(if half { b".5," } else { b".0," });
        } else {
            out.push(b',');
        }
        push_number(out, u64::from(rating.time));
        out.push(b'\n');
    }
    if ratings.is_empty() {
        out.truncate(start);
    }
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_like_movielens() {
        let rating = |item, value, time| Rating { item, value, time };
        let mut out = HEADER.to_vec();
        let two = [rating(0, 0.5, 820_454_400), rating(108, 4.0, 820_454_460)];
        push_lines(&mut out, 9, &two, true);
        push_lines(&mut out, 10, &[], true);
        push_lines(&mut out, 11, &[rating(u32::MAX, 5.0, 7)], false);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "userId,movieId,rating,timestamp\n\
             10,1,0.5,820454400\n10,109,4.0,820454460\n12,4294967296,5,7\n"
        );
    }

    #[test]
    fn numbers_read_back() {
        for number in [0, 9, 10, 99, 100, 12_345, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
