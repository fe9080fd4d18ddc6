//! What the vector unit can do at all: the yardstick of the other kernels.

use super::vector::{LANES, Vector};
use super::{Isa, Kernel};

/// Vectors that one step multiplies and adds.
const CHAINS: usize = 12;

/// Flop of one step of [`multiply_adds`].
pub const PEAK_STEP_FLOP: usize = 2 * CHAINS * LANES;

/// Does `steps` times [`PEAK_STEP_FLOP`] of multiply-adds `x = x * a + b` in independent chains that never leave the
/// registers. Returns a sum over the chains, to be made use of.
pub fn multiply_adds(isa: Isa, steps: usize, a: f32, b: f32) -> f32 {
    isa.run(MultiplyAdds { steps, a, b })
}

struct MultiplyAdds {
    steps: usize,
    a: f32,
    b: f32,
}

impl Kernel for MultiplyAdds {
    type Output = f32;

    #[inline(always)]
    fn run<V: Vector>(self, v: V) -> f32 {
        // Half the chains and twice as long where not all of them fit the registers.
        if V::REGISTERS > CHAINS {
            self.chains::<V, CHAINS>(v, self.steps)
        } else {
            self.chains::<V, { CHAINS / 2 }>(v, 2 * self.steps)
        }
    }
}

impl MultiplyAdds {
    #[inline(always)]
    fn chains<V: Vector, const N: usize>(&self, v: V, steps: usize) -> f32 {
        let (a, b) = (v.splat(self.a), v.splat(self.b));
        let mut x = [v.splat(0.0); N];
        for (i, x) in x.iter_mut().enumerate() {
            *x = v.splat(i as f32);
        }
        for _ in 0..steps {
            for x in &mut x {
                *x = v.mul_add(*x, a, b);
            }
        }
        // All lanes, or those that nobody looks at would not be computed.
        x.into_iter().map(|x| v.sum(x)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_really_computed() {
        for isa in Isa::available() {
            // Every chain is 1 after its first step, and doubles plus one at each other.
            let (chains, steps) = match isa.run(Registers) {
                registers if registers > CHAINS => (CHAINS, 3),
                _ => (CHAINS / 2, 6),
            };
            let start = (chains * (chains - 1) / 2) as f32;
            let one = (1 << steps) as f32;
            let expected = LANES as f32 * (start * one + chains as f32 * (one - 1.0));
            assert_eq!(multiply_adds(isa, 3, 2.0, 1.0), expected, "{isa:?}");
        }
    }

    struct Registers;

    impl Kernel for Registers {
        type Output = usize;

        fn run<V: Vector>(self, _v: V) -> usize {
            V::REGISTERS
        }
    }
}
