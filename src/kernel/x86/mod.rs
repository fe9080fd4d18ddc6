//! The vector unit on x86-64: AVX2 with FMA, and AVX-512; and its huge pages.
//!
//! A value of one of the two unit types is made only by asking the machine, so having one proves that the instructions
//! exist. The operations are inlined into `run`'s shells, which enable the instruction set.
#![allow(unsafe_code)]

mod avx2;
mod avx512;
mod bytes;
#[cfg(target_os = "linux")]
mod pages;

use super::Kernel;
pub(super) use bytes::{Avx512Vnni, AvxVnni};
#[cfg(target_os = "linux")]
pub(super) use pages::prefer_huge_pages;

/// AVX2 and FMA: a vector is two registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx2Fma(());

/// The AVX-512 of server processors since 2017: a vector is one register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx512(());

impl Avx2Fma {
    /// The unit, if this machine has it.
    pub(super) fn detect() -> Option<Avx2Fma> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Avx2Fma(()))
    }

    /// Runs a kernel on this unit.
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma")]
        fn shell<K: Kernel>(unit: Avx2Fma, kernel: K) -> K::Output {
            kernel.run(unit)
        }
        // SAFETY: `self` proves that the machine has AVX2 and FMA.
        unsafe { shell(self, kernel) }
    }
}

impl Avx512 {
    /// The unit, if this machine has it.
    pub(super) fn detect() -> Option<Avx512> {
        Avx2Fma::detect()?;
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl"))
        .then_some(Avx512(()))
    }

    /// Runs a kernel on this unit.
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
        fn shell<K: Kernel>(unit: Avx512, kernel: K) -> K::Output {
            kernel.run(unit)
        }
        // SAFETY: `self` proves that the machine has these parts of AVX-512.
        unsafe { shell(self, kernel) }
    }
}
