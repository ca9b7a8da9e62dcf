//! Checks of concurrent calls.

use std::sync::Barrier;
use std::thread;

use super::*;

const THREADS: u64 = 4;

pub(super) fn calls_on_different_keys_never_disturb_one_another(place: &Place) -> Verdict {
    let tier = place.storing()?;
    let start = Barrier::new(THREADS as usize);
    together(|thread| {
        start.wait();
        for round in 0..50 {
            let key = sample::key(thread * 1000 + round % 10);
            let len = (round as usize * 977) % 20_000;
            put(&tier, &key, round, len);
            expect(&tier, &key, round, len);
            if round % 3 == 0 {
                assert!(remove(&tier, &key), "{key:?}: put, and remove finds nothing");
                expect_none(&tier, &key);
            }
        }
    });
    for thread in 0..THREADS {
        let last = |slot: u64| 40 + slot;
        for round in (0..10).map(last).filter(|round| round % 3 != 0) {
            expect(&tier, &sample::key(thread * 1000 + round % 10), round, (round as usize * 977) % 20_000);
        }
    }
    Ok(())
}

pub(super) fn gets_during_puts_of_one_key_see_whole_frames(place: &Place) -> Verdict {
    let tier = place.storing()?;
    let key = sample::key(1);
    let lens = [100, 70_000, 5000, 300_000, 0];
    let frames: Vec<_> =
        (0..5).map(|seed| sample::frame(&key, sample::payload(seed, lens[seed as usize]))).collect();
    let whole: Vec<_> = frames.iter().map(|frame| frame.to_vec()).collect();
    block_on(tier.put(&key, &frames[0])).expect("put succeeds");
    let start = Barrier::new(THREADS as usize);
    together(|thread| {
        start.wait();
        for round in 0..40 {
            if thread == 0 {
                block_on(tier.put(&key, &frames[round % frames.len()])).expect("put succeeds");
            } else {
                let seen = get(&tier, &key).expect("replaced, never removed, and absent");
                assert!(whole.iter().any(|whole| seen == *whole), "{} bytes that nobody put", seen.len());
            }
        }
    });
    Ok(())
}

/// Runs `work` on each thread. A panic in one becomes a panic here, with its message.
fn together(work: impl Fn(u64) + Sync) {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn({
                    let work = &work;
                    move || work(thread)
                })
            })
            .collect();
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}
