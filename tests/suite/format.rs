//! The store on disk: what is written comes back, and what is altered is refused.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use lowrank::matrix::{Ratings, Row, RowScratch, Side};
use lowrank::rng::key;
use lowrank::store::{
    Encoding, Fingerprint, HeldIds, InputCounts, Kind, Layout, Manifest, Part, Shard, ShardEntry,
    Store, StoreWriter, kind_of,
};
use lowrank::{ErrorKind, Result};
use tempfile::TempDir;

type Triplets = Vec<(u32, u32, f32)>;

const USERS: [&str; 5] = ["ann", "bob", "42", "zoë", "eve"];
const ITEMS: [&str; 4] = ["i1", "i0", "film noir", "7"];
const TITLES: [&str; 4] = ["Heat", "", "Metropolis", "M"];

/// User 3 and item 3 have no rating.
fn train() -> Triplets {
    vec![
        (0, 0, 4.0),
        (0, 1, 3.5),
        (0, 2, 1.0),
        (1, 0, 5.0),
        (2, 0, 4.0),
        (2, 2, 0.5),
        (4, 1, 3.5),
    ]
}

fn test() -> Triplets {
    vec![(1, 3, 2.0), (4, 0, 5.0)]
}

/// Writes the rows of one side of a part.
fn write_shards(
    store: &StoreWriter,
    part: Part,
    side: Side,
    triplets: &Triplets,
    encoding: Encoding,
    shard_bytes: u64,
) -> Result<Vec<ShardEntry>> {
    let (rows, width) = match side {
        Side::Users => (USERS.len(), ITEMS.len()),
        Side::Items => (ITEMS.len(), USERS.len()),
    };
    let mut by_row = vec![BTreeMap::new(); rows];
    for &(user, item, value) in triplets {
        let (row, col) = match side {
            Side::Users => (user, item),
            Side::Items => (item, user),
        };
        by_row[row as usize].insert(col, value);
    }
    let layout = Layout {
        side,
        part,
        encoding,
        width: width as u32,
    };
    let mut writer = store.shards(layout, shard_bytes)?;
    for row in by_row {
        let (cols, values): (Vec<u32>, Vec<f32>) = row.into_iter().unzip();
        writer.push_row(&cols, &values)?;
    }
    writer.finish()
}

fn fingerprint(triplets: &Triplets) -> Fingerprint {
    let mut fingerprint = Fingerprint::default();
    for &(user, item, value) in triplets {
        let (user, item) = (USERS[user as usize], ITEMS[item as usize]);
        fingerprint.add(key(user.as_bytes()), key(item.as_bytes()), value);
    }
    fingerprint
}

/// Writes a small store, letting `change` spoil its manifest.
fn write_with(
    path: &Path,
    force: bool,
    train: &Triplets,
    by_item: &Triplets,
    (encoding, shard_bytes): (Encoding, u64),
    change: impl FnOnce(&mut Manifest),
) -> Result<()> {
    let store = StoreWriter::create(path, force)?;
    let mut histogram: Vec<(f32, u64)> = Vec::new();
    let mut values: Vec<f32> = train.iter().map(|t| t.2).collect();
    values.sort_by(f32::total_cmp);
    for value in values {
        match histogram.last_mut() {
            Some((last, count)) if *last == value => *count += 1,
            _ => histogram.push((value, 1)),
        }
    }
    let shards = |part, side, triplets: &Triplets| {
        write_shards(&store, part, side, triplets, encoding, shard_bytes)
    };
    let mut manifest = Manifest {
        options: vec![("test-fraction".into(), "0.2".into())],
        users: USERS.len() as u64,
        items: ITEMS.len() as u64,
        ratings: train.len() as u64,
        encoding,
        scale: (0.5, 5.0),
        mean: train.iter().map(|t| f64::from(t.2)).sum::<f64>() / train.len() as f64,
        fingerprint: fingerprint(train),
        histogram: Some(histogram),
        times: None,
        input: InputCounts {
            lines: 9,
            ..InputCounts::default()
        },
        users_dictionary: store.dictionary(HeldIds {
            side: Side::Users,
            rows: 5,
            id: |row| USERS[row as usize],
            title: None::<fn(u32) -> &'static str>,
        })?,
        items_dictionary: store.dictionary(HeldIds {
            side: Side::Items,
            rows: 4,
            id: |row| ITEMS[row as usize],
            title: Some(|row: u32| TITLES[row as usize]),
        })?,
        by_user: shards(Part::Train, Side::Users, train)?,
        by_item: shards(Part::Train, Side::Items, by_item)?,
        validation: Vec::new(),
        test: shards(Part::Test, Side::Users, &test())?,
    };
    change(&mut manifest);
    store.commit(&manifest)
}

const PLAIN: Encoding = Encoding::Plain;
const PACKED: Encoding = Encoding::Packed;

fn store(encoding: Encoding, shard_bytes: u64) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ratings.store");
    let size = (encoding, shard_bytes);
    write_with(&path, false, &train(), &train(), size, |_| {}).unwrap();
    (dir, path)
}

fn verify(path: &Path) -> Result<()> {
    Store::open(path)?.verify(&mut |_| {}).map(|_| ())
}

/// All ratings as seen from one side, as (user, item, rating).
fn read(store: &Store, side: Side) -> Triplets {
    let mut triplets = Vec::new();
    let scratch = &mut RowScratch::default();
    for index in 0..store.blocks(side) {
        store.will_need(side, index);
        let block = store.block(side, index).unwrap();
        for i in 0..block.rows() {
            let number = (block.first_row() + i) as u32;
            let row = block.row(i, scratch);
            triplets.extend(
                row.cols
                    .iter()
                    .zip(row.values)
                    .map(|(&col, &value)| match side {
                        Side::Users => (number, col, value),
                        Side::Items => (col, number, value),
                    }),
            );
        }
        store.done_with(side, index);
    }
    triplets.sort_by_key(|&(user, item, _)| (user, item));
    triplets
}

/// Every file of a store, by its path within it.
fn files(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => files.push(path),
        }
    }
    files.sort();
    files
}

#[test]
fn a_store_reads_the_same_whatever_its_shard_size_and_cache() {
    for (encoding, shard_bytes, shards) in [
        (PLAIN, 0, 5),
        (PLAIN, 383, 5),
        (PLAIN, 384, 1),
        (PLAIN, 1 << 20, 1),
        (PACKED, 0, 5),
        (PACKED, 575, 5),
        (PACKED, 576, 1),
        (PACKED, 1 << 20, 1),
    ] {
        let (_dir, path) = store(encoding, shard_bytes);
        for cache_bytes in [0, 1000, u64::MAX] {
            let store = Store::open_within(&path, cache_bytes).unwrap();
            assert_eq!(store.blocks(Side::Users), shards, "{shard_bytes}");
            for _epoch in 0..2 {
                assert_eq!(read(&store, Side::Users), train());
                assert_eq!(read(&store, Side::Items), train());
            }
            let shape = store.shape();
            assert_eq!((shape.users, shape.items, shape.ratings), (5, 4, 7));
            assert_eq!(store.id(Side::Users, 3), "zoë");
            assert_eq!(store.items().lookup("film noir").unwrap(), Some(2));
            assert_eq!(store.items().title(0).unwrap(), Some("Heat"));
            assert_eq!(store.users().title(0).unwrap(), None);
        }
    }
}

#[test]
fn verify_reads_every_file_and_rating() {
    let (_dir, path) = store(PACKED, 0);
    let store = Store::open(&path).unwrap();
    let mut steps = Vec::new();
    let verified = store.verify(&mut |bytes| steps.push(bytes)).unwrap();
    let sizes = files(&path)
        .iter()
        .map(|file| file.metadata().unwrap().len())
        .collect::<Vec<_>>();
    assert_eq!(verified.files, sizes.len());
    assert_eq!(verified.bytes, sizes.iter().sum::<u64>());
    assert_eq!(verified.bytes, store.bytes());
    assert_eq!(verified.ratings, 9);
    assert_eq!(steps.len(), sizes.len());
    assert_eq!(steps.last(), Some(&verified.bytes));
}

#[test]
fn held_out_rows_are_found_by_user() {
    let (_dir, path) = store(PACKED, 0);
    let store = Store::open(&path).unwrap();
    assert!(store.part(Part::Validation).is_none());
    let scratch = &mut RowScratch::default();
    for (part, triplets) in [(Part::Train, train()), (Part::Test, test())] {
        let rows = store.part(part).unwrap();
        assert_eq!(rows.ratings(), triplets.len() as u64);
        for user in 0..USERS.len() {
            let (block, i) = rows.find(user).unwrap();
            let row = block.row(i, scratch);
            let expected: Vec<_> = triplets
                .iter()
                .filter(|t| t.0 as usize == user)
                .map(|t| (t.1, t.2))
                .collect();
            let found: Vec<_> = row
                .cols
                .iter()
                .copied()
                .zip(row.values.iter().copied())
                .collect();
            assert_eq!(found, expected);
        }
        let error = rows.find(USERS.len()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownId);
        // In any order, also twice, and across shards.
        let last = USERS.len() as u32 - 1;
        let users: Vec<u32> = (0..=last).chain([last, 0, last, 0, 0]).collect();
        let mut visited = Vec::new();
        let visit = |at, row: Row<'_>| visited.push((at, row.cols.to_vec(), row.values.to_vec()));
        rows.visit(&users, visit).unwrap();
        let expected = users.iter().enumerate().map(|(at, &user)| {
            let of_user = triplets.iter().filter(|t| t.0 == user);
            let (cols, values) = of_user.map(|t| (t.1, t.2)).unzip();
            (at, cols, values)
        });
        assert_eq!(
            visited,
            expected.collect::<Vec<(usize, Vec<u32>, Vec<f32>)>>()
        );
        let error = rows.visit(&[0, last + 1], |_, _| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownId);
    }
}

/// Runs `test` with one byte of a file changed. In place: rewriting whole files makes some file systems flush each time.
fn with_byte<T>(file: &Path, at: usize, byte: u8, test: impl FnOnce() -> T) -> T {
    let open = fs::OpenOptions::new().read(true).write(true).open(file);
    let (file, mut kept) = (open.unwrap(), [0]);
    file.read_exact_at(&mut kept, at as u64).unwrap();
    file.write_all_at(&[kept[0] ^ byte], at as u64).unwrap();
    let result = test();
    file.write_all_at(&kept, at as u64).unwrap();
    result
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    for encoding in [PLAIN, PACKED] {
        let (_dir, path) = store(encoding, 1 << 20);
        for file in files(&path) {
            for at in 0..fs::read(&file).unwrap().len() {
                let error = with_byte(&file, at, 1 << (at % 8), || verify(&path)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Damaged, "{file:?} at {at}");
                assert_eq!(error.file(), Some(file.as_path()));
                assert!(error.position().is_some(), "{error}");
            }
        }
        verify(&path).unwrap();
    }
}

#[test]
fn a_damaged_shard_is_never_half_read() {
    for encoding in [PLAIN, PACKED] {
        let (_dir, path) = store(encoding, 1 << 20);
        let shard = path.join("by_user/00000.shard");
        for at in 192..fs::read(&shard).unwrap().len() {
            let read = with_byte(&shard, at, 0x80, || {
                Store::open(&path).and_then(|store| store.block(Side::Users, 0).map(|_| ()))
            });
            assert_eq!(read.unwrap_err().kind(), ErrorKind::Damaged, "{at}");
        }
    }
}

#[test]
fn a_file_cut_short_or_grown_is_refused_at_open() {
    let (_dir, path) = store(PACKED, 1 << 20);
    for file in files(&path) {
        let whole = fs::read(&file).unwrap();
        let handle = fs::OpenOptions::new().write(true).open(&file).unwrap();
        let lengths = (0..whole.len() as u64).rev();
        for length in [whole.len() as u64 + 1].into_iter().chain(lengths) {
            handle.set_len(length).unwrap();
            let error = Store::open(&path).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::Damaged,
                "{file:?} of {length} bytes"
            );
        }
        fs::remove_file(&file).unwrap();
        assert!(Store::open(&path).is_err());
        fs::write(&file, &whole).unwrap();
    }
    verify(&path).unwrap();
}

#[test]
fn what_is_no_store_is_called_by_its_name() {
    let (dir, path) = store(PACKED, 0);
    assert_eq!(kind_of(&path), Some(Kind::Manifest));
    assert_eq!(kind_of(&path.join("users.dict")), Some(Kind::Dictionary));
    assert_eq!(kind_of(dir.path()), None);

    let open = |path: &Path| Store::open(path).unwrap_err();
    assert_eq!(open(&dir.path().join("missing")).kind(), ErrorKind::Io);
    for (path, what) in [
        (dir.path().to_owned(), "this is not a store"),
        (
            path.join("users.dict"),
            "this is a dictionary of ids, not a store",
        ),
        (path.join("manifest"), "this is not a store"),
    ] {
        let error = open(&path);
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        assert!(error.to_string().contains(what), "{error}");
    }
    let error = Shard::open(path.join("users.dict")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(
        error.to_string().contains("not a shard of ratings"),
        "{error}"
    );
}

#[test]
fn a_file_of_another_store_is_noticed() {
    let (dir, path) = store(PACKED, 1 << 20);
    let other = dir.path().join("other.store");
    let mut changed = train();
    changed[0].2 = 4.5;
    write_with(&other, false, &changed, &changed, (PACKED, 1 << 20), |_| {}).unwrap();
    for name in ["by_user/00000.shard", "by_item/00000.shard"] {
        let (ours, theirs) = (path.join(name), other.join(name));
        let kept = fs::read(&ours).unwrap();
        fs::copy(theirs, &ours).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(error.to_string().contains("not the file"), "{error}");
        fs::write(&ours, kept).unwrap();
    }
    fs::copy(path.join("items.dict"), path.join("users.dict")).unwrap();
    assert!(Store::open(&path).is_err());
}

#[test]
fn verify_compares_the_files_with_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let refused = |by_item: &Triplets, what: &str, change: fn(&mut Manifest)| {
        write_with(&path, true, &train(), by_item, (PACKED, 300), change).unwrap();
        let error = verify(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(error.to_string().contains(what), "{error}");
    };
    let mut swapped = train();
    (swapped[0].2, swapped[1].2) = (swapped[1].2, swapped[0].2);
    refused(&swapped, "different ratings", |_| {});
    refused(&train(), "fingerprint", |manifest| {
        manifest.fingerprint.add(1, 2, 3.0);
    });
    refused(&train(), "scale", |manifest| manifest.scale.0 = 1.0);
    refused(&train(), "histogram", |manifest| {
        let histogram = manifest.histogram.as_mut().unwrap();
        histogram[0].1 += 1;
        histogram[1].1 -= 1;
    });
}

#[test]
fn a_manifest_that_does_not_add_up_is_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let changes: [fn(&mut Manifest); 5] = [
        |manifest| manifest.users += 1,
        |manifest| manifest.ratings += 1,
        |manifest| manifest.by_item[1].first_row += 1,
        |manifest| manifest.test.truncate(1),
        |manifest| manifest.histogram.as_mut().unwrap()[0].1 = u64::MAX,
    ];
    for change in changes {
        let error = write_with(&path, false, &train(), &train(), (PACKED, 0), change).unwrap_err();
        assert!(error.to_string().contains("contradicts"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn force_replaces_a_store_while_readers_keep_the_old() {
    let (dir, path) = store(PACKED, 0);
    let size = (PACKED, 0);
    let again = write_with(&path, false, &train(), &train(), size, |_| {});
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let old = Store::open(&path).unwrap();
    let mut changed = train();
    changed.pop();
    write_with(&path, true, &changed, &changed, size, |_| {}).unwrap();
    assert_eq!(read(&old, Side::Users), train());
    assert_eq!(read(&Store::open(&path).unwrap(), Side::Users), changed);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
