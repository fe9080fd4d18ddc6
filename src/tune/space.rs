//! What a search may try: values or a range for each of some options.

use std::str::FromStr;

use serde_json::{Map, Number, Value};

use crate::error::{Error, ErrorKind, Result};
use crate::rng::{Purpose, Stream};
use crate::solver::{Learns, Method};

/// What one option may be.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// One of these.
    List(Vec<Number>),
    /// Any number from the first to the last: uniform in its logarithm where both are above zero, else uniform.
    Range(f64, f64),
}

/// `32,64` or `0.01..0.3`.
impl FromStr for Values {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Values, String> {
        let real = |text: &str| match text.trim().parse::<f64>() {
            Ok(x) if x.is_finite() => Ok(x),
            _ => Err(format!("{text:?} is not a number")),
        };
        if let Some((low, high)) = text.split_once("..") {
            let (low, high) = (real(low)?, real(high)?);
            return match low < high {
                true => Ok(Values::Range(low, high)),
                false => Err(format!(
                    "{low} to {high} is no range: the lower end comes first"
                )),
            };
        }
        let number = |text: &str| match text.trim().parse::<u64>() {
            Ok(whole) => Ok(Number::from(whole)),
            Err(_) => Ok(Number::from_f64(real(text)?).expect("it is finite")),
        };
        let values: std::result::Result<Vec<Number>, String> =
            text.split(',').map(number).collect();
        Ok(Values::List(values?))
    }
}

impl Values {
    fn draw(&self, stream: &mut Stream) -> Number {
        match self {
            Values::List(values) => values[stream.below(values.len() as u64) as usize].clone(),
            &Values::Range(low, high) => rounded(within(low, high, stream.uniform())),
        }
    }

    /// Each value of a list, or some of a range at equal distances, both ends among them.
    fn grid(&self) -> Vec<Number> {
        const POINTS: usize = 5;
        match self {
            Values::List(values) => values.clone(),
            &Values::Range(low, high) => (0..POINTS)
                .map(|at| rounded(within(low, high, at as f64 / (POINTS - 1) as f64)))
                .collect(),
        }
    }
}

/// The point of a range at this share of its length, or of its logarithm's.
fn within(low: f64, high: f64, share: f64) -> f64 {
    match low > 0.0 {
        true => libm::exp(libm::log(low) + share * (libm::log(high) - libm::log(low))),
        false => low + share * (high - low),
    }
}

/// A number of three digits: more would suggest that they matter.
fn rounded(x: f64) -> Number {
    let text = format!("{x:.2e}");
    let x = text.parse().expect("a number as it was written");
    Number::from_f64(x).expect("it is finite")
}

/// Options by their names on the command line.
pub type Choice = Map<String, Value>;

/// Options and what each of them may be, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Space {
    options: Vec<(String, Values)>,
}

impl Space {
    /// What is worth searching of a method where nothing is said: the rank, from a quarter to twice the given one; what holds
    /// rows back, from a tenth to ten times of what is usual; and what else the method names.
    pub fn usual(method: &Method, rank: usize) -> Space {
        let mut space = Space::default();
        if method.factors && method.learns != Learns::Popularity {
            let ranks = [rank / 4, rank / 2, rank, 2 * rank].map(|rank| rank.max(1));
            let mut ranks: Vec<_> = ranks.into_iter().map(Number::from).collect();
            ranks.dedup();
            space.set("rank", Values::List(ranks));
        }
        if method.regularization > 0.0 {
            let usual = f64::from(method.regularization);
            space.set("regularization", Values::Range(usual / 10.0, usual * 10.0));
        }
        for &(name, low, high) in method.searched {
            space.set(name, Values::Range(low, high));
        }
        space
    }

    /// Says what an option may be, instead of what was said before.
    pub fn set(&mut self, name: &str, values: Values) {
        match self.options.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = values,
            None => self.options.push((name.to_owned(), values)),
        }
    }

    /// The options' names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.options.iter().map(|(name, _)| name.as_str())
    }

    /// The options of a trial: a function of the seed and the trial's number.
    pub fn draw(&self, seed: u64, trial: usize) -> Choice {
        let mut stream = Stream::new(seed, Purpose::Trials, 0, trial as u64);
        let draw = |(name, values): &(String, Values)| {
            (name.clone(), Value::Number(values.draw(&mut stream)))
        };
        self.options.iter().map(draw).collect()
    }

    /// All combinations, the last option changing fastest.
    ///
    /// # Errors
    /// If they are more than anybody would wait for.
    pub fn grid(&self) -> Result<Vec<Choice>> {
        const MOST: usize = 10_000;
        let mut grid = vec![Choice::new()];
        for (name, values) in &self.options {
            let values = values.grid();
            if grid.len() * values.len() > MOST {
                let what = format!("the grid has more than {MOST} points");
                return Err(Error::new(ErrorKind::BadOption, what)
                    .remedy("give fewer values, or use --search random"));
            }
            let with = |point: Choice| {
                let name = &name;
                values.clone().into_iter().map(move |value| {
                    let mut point = point.clone();
                    point.insert((*name).clone(), Value::Number(value));
                    point
                })
            };
            grid = grid.into_iter().flat_map(with).collect();
        }
        Ok(grid)
    }

    /// The one point of a space that leaves no choice.
    ///
    /// # Errors
    /// If it does.
    pub fn only(&self) -> Result<Choice> {
        let mut only = Choice::new();
        for (name, values) in &self.options {
            match values {
                Values::List(values) if values.len() == 1 => {
                    only.insert(name.clone(), Value::Number(values[0].clone()));
                }
                _ => {
                    let what = format!("--{name} has more than one value");
                    return Err(Error::new(ErrorKind::BadOption, what)
                        .remedy("give one, or search for it with lowrank tune"));
                }
            }
        }
        Ok(only)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> Space {
        let mut space = Space::default();
        space.set("rank", "8,16".parse().unwrap());
        space.set("regularization", "0.01..1".parse().unwrap());
        space
    }

    #[test]
    fn lists_and_ranges_are_told_apart() {
        let values = |text: &str| text.parse::<Values>();
        assert_eq!(values("0.01..0.3"), Ok(Values::Range(0.01, 0.3)));
        assert_eq!(
            values("32, 64"),
            Ok(Values::List(vec![32.into(), 64.into()]))
        );
        for bad in ["", "a", "1..", "2..1", "1,,2", "inf", "1..nan"] {
            assert!(values(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn draws_hang_on_seed_and_number_alone_and_fill_a_range_evenly() {
        let space = space();
        assert_eq!(space.draw(3, 7), space.draw(3, 7));
        assert_ne!(space.draw(3, 7), space.draw(4, 7));
        let drawn: Vec<f64> = (0..1000)
            .map(|trial| space.draw(1, trial)["regularization"].as_f64().unwrap())
            .collect();
        assert!(drawn.iter().all(|x| (0.01..=1.0).contains(x)));
        // Half of a logarithmic range lies below its geometric mean: five standard deviations.
        let below = drawn.iter().filter(|&&x| x < 0.1).count() as f64;
        assert!((below - 500.0).abs() < 5.0 * 250_f64.sqrt(), "{below}");
    }

    #[test]
    fn a_grid_has_every_combination_once() {
        let grid = space().grid().unwrap();
        let points: Vec<_> = grid
            .iter()
            .map(|p| {
                (
                    p["rank"].as_u64().unwrap(),
                    p["regularization"].as_f64().unwrap(),
                )
            })
            .collect();
        let ridges = [0.01, 0.0316, 0.1, 0.316, 1.0];
        let expected: Vec<_> = [8, 16]
            .into_iter()
            .flat_map(|rank| ridges.map(|ridge| (rank, ridge)))
            .collect();
        assert_eq!(points, expected);
        assert!(space().only().is_err());
    }
}
