//! Losses and penalties that a user writes as a formula, such as `log(1+exp(-r*p))`.
//!
//! A formula is parsed once into a small program for a stack machine, which runs on any [`Real`]: on dual numbers it gives
//! exact derivatives. Sixteen ratings go through it together, so that fetching an instruction costs little beside them.

mod parse;

use super::{Loss, Real};
use crate::error::{Error, Result};

/// An instruction of the stack machine.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Op {
    Constant(f64),
    Variable(usize),
    Add,
    Subtract,
    Multiply,
    Divide,
    Negate,
    /// To a whole power known beforehand.
    Powi(u32),
    Power,
    Exp,
    Ln,
    Ln1p,
    Sqrt,
    Tanh,
    Abs,
    Max,
    Min,
    /// `where(c, a, b)`: a where c is above zero, else b.
    Where,
}

impl Op {
    /// How many values it takes off the stack; it puts one on it.
    fn takes(self) -> usize {
        match self {
            Op::Constant(_) | Op::Variable(_) => 0,
            Op::Negate | Op::Powi(_) => 1,
            Op::Exp | Op::Ln | Op::Ln1p | Op::Sqrt | Op::Tanh | Op::Abs => 1,
            Op::Add | Op::Subtract | Op::Multiply | Op::Divide | Op::Power => 2,
            Op::Max | Op::Min => 2,
            Op::Where => 3,
        }
    }
}

/// A function that a formula may call.
struct Function {
    name: &'static str,
    op: Op,
}

/// All of them. [`Op::takes`] tells the number of arguments.
const FUNCTIONS: &[Function] = &[
    Function {
        name: "exp",
        op: Op::Exp,
    },
    Function {
        name: "log",
        op: Op::Ln,
    },
    Function {
        name: "log1p",
        op: Op::Ln1p,
    },
    Function {
        name: "sqrt",
        op: Op::Sqrt,
    },
    Function {
        name: "tanh",
        op: Op::Tanh,
    },
    Function {
        name: "abs",
        op: Op::Abs,
    },
    Function {
        name: "max",
        op: Op::Max,
    },
    Function {
        name: "min",
        op: Op::Min,
    },
    Function {
        name: "where",
        op: Op::Where,
    },
];

/// A formula, compiled.
#[derive(Debug, Clone, PartialEq)]
pub struct Formula {
    text: String,
    program: Vec<Op>,
    /// Where in the text each instruction comes from.
    places: Vec<usize>,
}

/// The deepest stack that a formula may need.
const DEPTH: usize = 16;

impl Formula {
    /// Parses a formula in these variables.
    ///
    /// Numbers, `+ - * / ^` with their usual binding (`^` to the right, before the sign in front of it), parentheses, and
    /// the functions `exp log log1p sqrt tanh abs max min where`; `where(c, a, b)` is a where c is above zero, else b.
    ///
    /// # Errors
    /// If it cannot be read, names an unknown variable or function, or nests too deeply; the message marks the place.
    pub fn parse(text: &str, variables: &[&str]) -> Result<Formula> {
        parse::parse(text, variables)
    }

    /// The names of the functions that a formula may call.
    pub fn functions() -> impl Iterator<Item = &'static str> {
        FUNCTIONS.iter().map(|function| function.name)
    }

    /// The formula as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The value for values of the variables.
    #[inline(always)]
    pub fn evaluate<R: Real>(&self, variables: &[R]) -> R {
        let mut stack = [R::constant(0.0); DEPTH];
        let mut top = 0;
        for op in &self.program {
            top = step(*op, variables, &mut stack, top);
        }
        stack[0]
    }

    /// Where in the text the first value arises that is not finite, if one does.
    fn not_finite_at(&self, variables: &[f64]) -> Option<usize> {
        let mut stack = [0.0; DEPTH];
        let mut top = 0;
        for (op, &place) in self.program.iter().zip(&self.places) {
            top = step(*op, variables, &mut stack, top);
            if !stack[top - 1].is_finite() {
                return Some(place);
            }
        }
        None
    }
}

/// Runs one instruction; gives the new height of the stack. The parser has checked that it neither runs dry nor over.
#[inline(always)]
fn step<R: Real>(op: Op, variables: &[R], stack: &mut [R; DEPTH], top: usize) -> usize {
    let at = top - op.takes();
    let [a, b, c] = [at, at + 1, at + 2].map(|i| stack[i % DEPTH]);
    stack[at] = match op {
        Op::Constant(value) => R::constant(value),
        Op::Variable(index) => variables[index],
        Op::Add => a + b,
        Op::Subtract => a - b,
        Op::Multiply => a * b,
        Op::Divide => a / b,
        Op::Negate => -a,
        Op::Powi(exponent) => a.powi(exponent),
        Op::Power => a.pow(b),
        Op::Exp => a.exp(),
        Op::Ln => a.ln(),
        Op::Ln1p => a.ln_1p(),
        Op::Sqrt => a.sqrt(),
        Op::Tanh => a.tanh(),
        Op::Abs => a.abs(),
        Op::Max => a.max(b),
        Op::Min => a.min(b),
        Op::Where => b.where_positive(a, c),
    };
    at + 1
}

impl Loss for Formula {
    #[inline(always)]
    fn loss<R: Real>(&self, prediction: R, rating: R) -> R {
        self.evaluate(&[prediction, rating])
    }

    fn not_finite(&self, prediction: f64, rating: f64) -> Error {
        let error = super::not_finite(prediction, rating);
        // A value may be finite where its slope is not: then no place is to blame more than another.
        match self.not_finite_at(&[prediction, rating]) {
            Some(place) => parse::refusal(&self.text, place, &error.to_string()),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_bind_as_they_do_on_paper() {
        let at = |text: &str| {
            Formula::parse(text, &["x", "y"])
                .unwrap()
                .evaluate(&[3.0, 2.0])
        };
        for (text, value) in [
            ("1+2*x", 7.0),
            ("(1+2)*x", 9.0),
            ("x-y-1", 0.0),
            ("x/y/2", 0.75),
            ("-x^2", -9.0),
            ("(-x)^2", 9.0),
            ("2^x^y", 512.0),
            ("2^-1", 0.5),
            ("x^0.5^2", libm::pow(3.0, 0.25)),
            ("--x", 3.0),
            ("2e-1*x", 0.6000000000000001),
            (".5*x", 1.5),
            ("max(x, y) - min(x, y)", 1.0),
            ("where(x-y, 10, 20)", 10.0),
            ("where(y-x, 10, 20)", 20.0),
            ("abs(y-x)", 1.0),
            ("exp(0)+log(1)+log1p(0)+sqrt(4)+tanh(0)", 3.0),
            (" x\t* ( y ) ", 6.0),
        ] {
            assert_eq!(at(text), value, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_place_marked() {
        for (text, what, place) in [
            ("(p-r", "is not closed", 0),
            ("p-r)", "nothing is open", 3),
            ("p +* r", "a number, a variable", 3),
            ("p q", "an operator", 2),
            ("(p-q)^2", "no variable named \"q\"", 3),
            ("sin(p)", "no function named \"sin\"", 0),
            ("exp", "no variable named \"exp\"", 0),
            ("max(p)", "max takes 2", 0),
            ("exp(p, r)", "exp takes 1", 0),
            ("1.2.3", "is not a number", 0),
            ("p $ r", "an operator", 2),
            ("", "a number, a variable", 0),
            ("p-", "a number, a variable", 2),
            ("é*p", "a number, a variable", 0),
        ] {
            let error = Formula::parse(text, &["p", "r"]).unwrap_err().to_string();
            assert!(error.contains(what), "{text}: {error}");
            let caret = error.lines().last().unwrap().find('^').unwrap();
            assert_eq!(caret, place + 2, "{text}: {error}");
        }
        let deep = format!("{}p{}", "(1+".repeat(40), ")".repeat(40));
        assert!(
            Formula::parse(&deep, &["p"])
                .unwrap_err()
                .to_string()
                .contains("too deeply")
        );
        let open = "(".repeat(100_000);
        assert!(Formula::parse(&open, &["p"]).is_err());
    }
}
