//! The parser of formulas: precedence climbing over characters, straight into instructions.

use super::{DEPTH, FUNCTIONS, Formula, Op};
use crate::error::{Error, ErrorKind, Result};

/// How deeply parentheses may nest: the parser calls itself.
const NESTING: usize = 64;

pub(super) fn parse(text: &str, variables: &[&str]) -> Result<Formula> {
    let mut parser = Parser {
        text,
        at: 0,
        variables,
        program: Vec::new(),
        places: Vec::new(),
        nesting: 0,
    };
    parser.expression(0)?;
    parser.blanks();
    if parser.at < text.len() {
        return Err(match parser.peek() {
            Some(')') => parser.error(parser.at, "nothing is open that this could close"),
            _ => parser.error(parser.at, "an operator should be here"),
        });
    }
    let mut height = 0;
    for op in &parser.program {
        height = height - op.takes() + 1;
        if height > DEPTH {
            return Err(parser.error(0, "the formula nests too deeply"));
        }
    }
    Ok(Formula {
        text: text.to_owned(),
        program: parser.program,
        places: parser.places,
    })
}

/// The error that a formula is refused with: it shows the formula and marks a place in it.
pub(super) fn refusal(text: &str, place: usize, message: &str) -> Error {
    let column = text[..place].chars().count();
    let marked = format!("{message}\n  {text}\n  {}^", " ".repeat(column));
    Error::new(ErrorKind::BadOption, marked)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    variables: &'a [&'a str],
    program: Vec<Op>,
    places: Vec<usize>,
    nesting: usize,
}

/// Binding of the operators between two operands, from loose to tight.
const SUM: u8 = 1;
const PRODUCT: u8 = 2;
const SIGN: u8 = 3;
const POWER: u8 = 4;

impl Parser<'_> {
    /// Everything that binds at least as tightly as `least`.
    fn expression(&mut self, least: u8) -> Result<()> {
        self.nesting += 1;
        if self.nesting > NESTING {
            return Err(self.error(self.at, "the formula nests too deeply"));
        }
        self.operand()?;
        loop {
            self.blanks();
            let place = self.at;
            let (binding, op) = match self.peek() {
                Some('+') => (SUM, Op::Add),
                Some('-') => (SUM, Op::Subtract),
                Some('*') => (PRODUCT, Op::Multiply),
                Some('/') => (PRODUCT, Op::Divide),
                Some('^') => (POWER, Op::Power),
                _ => break,
            };
            if binding < least {
                break;
            }
            self.at += 1;
            // All group to the left, but powers to the right; an exponent may have a sign.
            self.expression(if op == Op::Power { SIGN } else { binding + 1 })?;
            self.push(op, place);
        }
        self.nesting -= 1;
        Ok(())
    }

    /// A number, a variable, a call, a parenthesis, or one of them with a sign.
    fn operand(&mut self) -> Result<()> {
        self.blanks();
        let place = self.at;
        match self.peek() {
            Some('-') => {
                self.at += 1;
                self.expression(SIGN)?;
                self.push(Op::Negate, place);
                Ok(())
            }
            Some('(') => {
                self.at += 1;
                self.expression(SUM)?;
                self.close(place)
            }
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            Some(c) if c.is_ascii_alphabetic() => self.name(),
            _ => Err(self.error(
                place,
                "a number, a variable or a parenthesis should be here",
            )),
        }
    }

    fn number(&mut self) -> Result<()> {
        let place = self.at;
        let bytes = self.text.as_bytes();
        let mut end = place;
        while let Some(&byte) = bytes.get(end) {
            // A sign belongs to a number only behind the e of its exponent.
            let exponent = end > place && matches!(bytes[end - 1], b'e' | b'E');
            if !(byte.is_ascii_digit()
                || matches!(byte, b'.' | b'e' | b'E')
                || exponent && matches!(byte, b'+' | b'-'))
            {
                break;
            }
            end += 1;
        }
        let text = &self.text[place..end];
        let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
        let value = value.ok_or_else(|| self.error(place, &format!("{text:?} is not a number")))?;
        self.at = end;
        self.push(Op::Constant(value), place);
        Ok(())
    }

    fn name(&mut self) -> Result<()> {
        let place = self.at;
        let rest = &self.text[place..];
        let length = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let name = &rest[..length];
        self.at += length;
        self.blanks();
        if self.peek() == Some('(') {
            return self.call(name, place);
        }
        match self.variables.iter().position(|variable| *variable == name) {
            Some(index) => {
                self.push(Op::Variable(index), place);
                Ok(())
            }
            None => {
                let known = self.variables.join(" and ");
                Err(self.error(
                    place,
                    &format!("no variable named {name:?}, there is {known}"),
                ))
            }
        }
    }

    fn call(&mut self, name: &str, place: usize) -> Result<()> {
        let Some(function) = FUNCTIONS.iter().find(|function| function.name == name) else {
            let known: Vec<_> = FUNCTIONS.iter().map(|function| function.name).collect();
            let message = format!("no function named {name:?}, there are {}", known.join(", "));
            return Err(self.error(place, &message));
        };
        let open = self.at;
        let mut arguments = 0;
        loop {
            self.at += 1;
            self.expression(SUM)?;
            arguments += 1;
            self.blanks();
            if self.peek() != Some(',') {
                break;
            }
        }
        self.close(open)?;
        let takes = function.op.takes();
        if arguments != takes {
            let plural = if takes == 1 { "" } else { "s" };
            let message = format!("{name} takes {takes} argument{plural}, here are {arguments}");
            return Err(self.error(place, &message));
        }
        self.push(function.op, place);
        Ok(())
    }

    fn close(&mut self, open: usize) -> Result<()> {
        self.blanks();
        if self.peek() != Some(')') {
            return Err(match self.peek() {
                None => self.error(open, "this parenthesis is not closed"),
                Some(_) => self.error(
                    self.at,
                    "an operator or a closing parenthesis should be here",
                ),
            });
        }
        self.at += 1;
        Ok(())
    }

    /// Appends an instruction. A power with a small whole exponent becomes a multiplication, exact at zero and below.
    fn push(&mut self, op: Op, place: usize) {
        if let (Op::Power, Some(&Op::Constant(exponent))) = (op, self.program.last())
            && (0.0..=8.0).contains(&exponent)
            && exponent.fract() == 0.0
        {
            self.program.pop();
            self.places.pop();
            self.program.push(Op::Powi(exponent as u32));
        } else {
            self.program.push(op);
        }
        self.places.push(place);
    }

    fn blanks(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn error(&self, place: usize, message: &str) -> Error {
        refusal(self.text, place, message)
    }
}
