//! A sparse matrix of the crate sprs goes in, and comes out again without a copy.

use lowrank::{InMemory, Options, Ratings, Result, Side, Threads, Trainer};
use sprs::{CsMatI, TriMatI};

fn main() -> Result<()> {
    // Users by items, in any order. Every stored entry is a rating, a stored zero, too.
    let mut matrix = TriMatI::<f32, u32>::new((20, 12));
    for (user, item) in (0..20).flat_map(|user| (0..12).map(move |item| (user, item))) {
        if (user + item) % 3 != 0 {
            matrix.add_triplet(user, item, if user % 2 == item % 2 { 5.0 } else { 1.0 });
        }
    }
    let matrix: CsMatI<f32, u32, u64> = matrix.to_csr();
    let ratings = InMemory::from_sprs(matrix.view())?;

    let options = Options {
        rank: 2,
        ..Options::default()
    };
    let state = Trainer::new(&ratings, options).run(&Threads::new(None)?)?;
    let parameters = state.parameters();
    println!(
        "user 0 and item 0: {:.2}",
        parameters.predict(Some(0), Some(0))
    );
    println!(
        "user 0 and item 3: {:.2}",
        parameters.predict(Some(0), Some(3))
    );

    // A block of plain rows is a view of sprs: by user it is CSR, by item the transpose's.
    for side in [Side::Users, Side::Items] {
        for index in 0..ratings.blocks(side) {
            let view = ratings.block(side, index)?.as_sprs()?;
            println!(
                "{side:?}: {} x {}, {} ratings",
                view.rows(),
                view.cols(),
                view.nnz()
            );
            assert_eq!(view.nnz(), matrix.nnz());
        }
    }
    let view = ratings.block(Side::Users, 0)?.as_sprs()?;
    assert_eq!(view, matrix.view());
    Ok(())
}
