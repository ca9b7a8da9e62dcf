//! Tests of the disk budget, as `du` counts it.

use super::*;

const LIMIT: u64 = 64 * MIB;

fn taken(dir: &Path) -> u64 {
    super::super::layout::bytes_in(dir)
}

/// A payload. Nothing compresses it, so all of its bytes are equal.
fn fill(seed: u64, len: usize) -> Vec<u8> {
    vec![seed as u8; len]
}

/// Sizes of a mixed load: mostly small by count, mostly large by bytes.
fn size_of(name: u64) -> usize {
    [100, 700, 3000, 9000, 30_000, 120_000][(name % 6) as usize]
}

#[test]
fn a_mixed_load_stays_within_a_quarter_above_the_budget() {
    let dir = TempDir::new().unwrap();
    let tier = open_with(dir.path(), LIMIT, CROSSOVER_BYTES).unwrap();
    let done = AtomicBool::new(false);
    let most = std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(taken(dir.path()));
                std::thread::yield_now();
            }
            most
        });
        let writers: Vec<_> = (0..2u64)
            .map(|thread| {
                let tier = &tier;
                scope.spawn(move || {
                    for round in 0..5000u64 {
                        let name = thread + 2 * (round.wrapping_mul(7919) % 3000);
                        match round % 10 {
                            0 => drop(now(tier.remove(&key(name))).unwrap()),
                            1..4 => drop(get(tier, name)),
                            _ => put(tier, name, fill(round, size_of(name))),
                        }
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
        sampler.join().unwrap()
    });
    assert!(most <= LIMIT / 4 * 5, "{most} bytes at most");
    assert!(tier.usage().evictions > 0, "the budget was reached");
    let (counted, found) = (tier.usage().bytes, taken(dir.path()));
    assert!(counted.abs_diff(found) <= found / 20, "{counted} counted, {found} taken");
    drop(tier);
    let reopened = open_with(dir.path(), LIMIT, CROSSOVER_BYTES).unwrap().usage().bytes;
    assert!(counted.abs_diff(reopened) <= counted / 20, "{counted} live, {reopened} after reopening");
}

#[test]
fn two_fifths_of_the_budget_are_live_after_three_overwrites() {
    for sizes in [&[100, 700, 3000, 9000, 30_000, 120_000][..], &[1000], &[2500], &[16_000]] {
        check_live(LIMIT, sizes);
    }
}

/// Uses a smaller budget, since small values take more puts to fill it.
#[test]
fn two_fifths_of_the_budget_are_live_for_small_values_too() {
    for sizes in [&[100][..], &[256], &[512], &[100, 256, 512, 1500]] {
        check_live(LIMIT / 4, sizes);
    }
}

fn check_live(limit: u64, sizes: &[usize]) {
    let dir = TempDir::new().unwrap();
    let tier = open_with(dir.path(), limit, CROSSOVER_BYTES).unwrap();
    let size = |name: u64| sizes[name as usize % sizes.len()];
    let mut bytes = 0;
    let keys = (0..).find(|name| {
        bytes += size(*name) as u64;
        bytes > limit / 10 * 6
    });
    let keys = keys.unwrap();
    for round in 0..4u64 {
        for at in 0..keys {
            let name = if round % 2 == 0 { at } else { at.wrapping_mul(7919) % keys };
            put(&tier, name, fill(name + round, size(name)));
            if at % 1000 == 0 {
                let taken = taken(dir.path());
                assert!(taken <= limit / 4 * 5, "{taken} bytes of {limit}, sizes {sizes:?}");
            }
        }
    }
    let live: u64 = (0..keys).filter_map(|name| get(&tier, name)).map(|frame| frame.len() as u64).sum();
    assert!(live >= limit / 10 * 4, "{live} bytes of {limit} are live, sizes {sizes:?}");
    assert!(taken(dir.path()) <= limit / 4 * 5, "after reading all of it");
}

#[test]
fn never_read_entries_are_evicted_first() {
    for size in [900, 20_000] {
        let dir = TempDir::new().unwrap();
        let limit = 16 * MIB;
        let tier = open_with(dir.path(), limit, CROSSOVER_BYTES).unwrap();
        (0..20).for_each(|name| put(&tier, name, fill(name, size)));
        for name in 100..100 + 4 * limit / size as u64 {
            put(&tier, name, fill(name, size));
            if name % 64 == 0 {
                (0..20).for_each(|name| drop(get(&tier, name)));
            }
        }
        assert!(tier.usage().evictions > 0);
        let left = (0..20).filter(|name| now(tier.contains(&key(name))).unwrap()).count();
        assert_eq!(left, 20, "frames of {size} bytes that are read all the time");
    }
}

#[test]
fn put_into_a_budget_filled_by_others_evicts_nothing() {
    let dir = TempDir::new().unwrap();
    let budget = DiskBudget::new(32 * MIB);
    let others = budget.share();
    let tier = DiskTier::open(DiskOptions {
        dir: dir.path().to_owned(),
        budget: budget.share(),
        crossover: CROSSOVER_BYTES,
        durability: Durability::Buffered,
    })
    .unwrap();
    (0..100).for_each(|name| put(&tier, name, fill(name, if name % 2 == 0 { 300 } else { 9000 })));
    others.set(32 * MIB);
    let key = key("more");
    for _ in 0..3 {
        let refused = now(tier.put(&key, &frame(&key, fill(1, 9000)))).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Full);
    }
    assert_eq!(usage(&tier), (100, 0));
    others.set(30 * MIB);
    now(tier.put(&key, &frame(&key, fill(1, 9000)))).unwrap();
}

#[test]
fn concurrent_writers_do_not_reserve_the_same_room() {
    const WRITERS: u64 = 8;
    let dir = TempDir::new().unwrap();
    let tier = open_with(dir.path(), 16 * MIB, CROSSOVER_BYTES).unwrap();
    let start = std::sync::Barrier::new(WRITERS as usize);
    for round in 0..4 {
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (tier, start) = (&tier, &start);
                scope.spawn(move || {
                    let key = key(format!("{round} {writer}"));
                    let frame = frame(&key, noise(writer, 3 * MIB as usize));
                    start.wait();
                    if let Err(error) = now(tier.put(&key, &frame)) {
                        assert_eq!(error.kind(), ErrorKind::Full);
                    }
                });
            }
        });
        let used = tier.budget.used();
        assert!(used <= 16 * MIB, "{used} bytes, round {round}");
    }
}
