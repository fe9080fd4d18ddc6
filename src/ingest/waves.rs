//! Work that is prepared in parallel and taken in in order.

use rayon::prelude::*;

use crate::error::Result;

/// Prepares what `loads` gives, a few at a time, in parallel; meanwhile those prepared before are taken in, in order, on
/// one thread. At most four for each thread are held at a time, half of them prepared.
///
/// # Errors
/// The first that loading or taking in gives, in order.
pub fn in_waves<L: Send, P: Send>(
    mut loads: impl Iterator<Item = Result<L>>,
    prepare: impl Fn(L) -> P + Sync,
    mut take: impl FnMut(P) -> Result<()> + Send,
) -> Result<()> {
    let wave = 2 * rayon::current_num_threads();
    let mut ready: Vec<P> = Vec::new();
    loop {
        let loaded = loads.by_ref().take(wave).collect::<Result<Vec<L>>>();
        let (loaded, failure) = match loaded {
            Ok(loaded) => (loaded, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let (taken, prepared) = rayon::join(
            || ready.drain(..).try_for_each(&mut take),
            || loaded.into_par_iter().map(&prepare).collect::<Vec<P>>(),
        );
        taken?;
        if let Some(error) = failure {
            return Err(error);
        }
        if prepared.is_empty() {
            return Ok(());
        }
        ready = prepared;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::threads::Threads;

    #[test]
    fn all_are_taken_in_order_up_to_the_first_failure() {
        let error = |at: u32| Error::new(ErrorKind::BadInput, at.to_string());
        for threads in [1, 3] {
            let threads = Threads::new(Some(threads)).unwrap();
            for (count, bad_load, bad_take) in
                [(0, 99, 99), (50, 99, 99), (50, 31, 99), (50, 40, 7)]
            {
                let mut taken = Vec::new();
                let result = threads.run(|| {
                    in_waves(
                        (0..count).map(|i| if i == bad_load { Err(error(i)) } else { Ok(i) }),
                        |i| 2 * i,
                        |doubled| {
                            if doubled == 2 * bad_take {
                                return Err(error(bad_take));
                            }
                            taken.push(doubled / 2);
                            Ok(())
                        },
                    )
                });
                assert!(taken.iter().copied().eq(0..taken.len() as u32));
                match result {
                    Ok(()) => assert_eq!(taken.len(), count as usize),
                    Err(error) => assert_eq!(error.to_string(), bad_load.min(bad_take).to_string()),
                }
            }
        }
    }
}
