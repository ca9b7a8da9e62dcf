//! Histories of directories that are reopened with another schema version or another type of value.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use fastrand::Rng;
use larder::{Persistence, TieredBuilder, bcache, fcache, ucache};
use larder_testkit::block_on;
use larder_testkit::history::{Contract, History, Keeps, Report, Verdict};
use larder_testkit::workload::{Weights, Workload};
use serde::{Deserialize, Serialize};

use crate::crashes::{Text, Threads};

use super::{CALLS, HISTORIES, number};

/// The number of tests below.
const KINDS: u64 = 3;
const LIVES: usize = 5;

macro_rules! texts {
    ($($name:ident { $($rest:ident: $type:ty = $value:expr),* })+) => {$(
        #[derive(Clone, Debug, Serialize, Deserialize)]
        struct $name {
            text: String,
            $($rest: $type,)*
        }

        impl Text for $name {
            fn of(text: String) -> Self {
                Self { text, $($rest: $value,)* }
            }

            fn into_text(self) -> String {
                self.text
            }
        }
    )+};
}

texts! {
    Note { size: u64 = 7 }
    Memo { size: f64 = 7.0 }
    Page { data: serde_json::Value = serde_json::json!([1, "two"]) }
}

/// One life of the directory, with values of type `V`.
fn life<V: Text>(builder: TieredBuilder<u64, V>, schema: u32, history: &Arc<History>, rng: &mut Rng) {
    let memory = if rng.bool() { 0 } else { 64 << 10 };
    let subject = Threads(builder.memory_bytes(memory).build().unwrap());
    let work = Workload {
        keys: 12,
        lens: vec![10, 1_000, 5_000, 30_000],
        // Few changes, so that some entries survive a life of another schema.
        weights: Weights { insert: 10, clear: 0, ..Weights::ALL },
        failing_loads: 80,
        given_up: 0,
    };
    let recorder = || history.recorder().with_schema(schema);
    if rng.bool() {
        block_on(work.read_all(&subject, &mut recorder()));
    }
    thread::scope(|scope| {
        for mut rng in [rng.fork(), rng.fork()] {
            let (mut recorder, subject, work) = (recorder(), &subject, &work);
            scope.spawn(move || block_on(work.run(subject, &mut recorder, &mut rng, CALLS / 4)));
        }
    });
    // Some lives end without `close`.
    if rng.bool() {
        subject.0.close().unwrap();
    }
}

/// The builders that are reopened.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Disk,
    Files,
    Any,
}

impl Kind {
    fn builder<V: Text>(self, dir: &Path) -> TieredBuilder<u64, V> {
        match self {
            Self::Disk => bcache("schemas"),
            Self::Files => fcache("schemas"),
            Self::Any => ucache("schemas").persistence(Persistence::LongTerm),
        }
        .dir(dir)
    }

    /// Lives with one of five schemas: two versions of one type, types that differ in a number, and
    /// one that is stored by names.
    fn live(self, dir: &Path, history: &Arc<History>, rng: &mut Rng) {
        match rng.u32(0..5) {
            0 => life(self.builder::<String>(dir), 0, history, rng),
            1 => life(self.builder::<String>(dir).version(2), 1, history, rng),
            2 => life(self.builder::<Note>(dir), 2, history, rng),
            3 => life(self.builder::<Memo>(dir), 3, history, rng),
            _ => life(self.builder::<Page>(dir), 4, history, rng),
        }
    }
}

fn over(kind: Kind) {
    let once = number("LARDER_SEED");
    let count = match once {
        Some(_) => 1,
        None => number("LARDER_HISTORIES").unwrap_or(HISTORIES).div_ceil(KINDS * 8),
    };
    let seed = once.unwrap_or_else(|| Rng::new().u64(..));
    let mut all = Report::default();
    for seed in (0..count).map(|n| seed.wrapping_add(n)) {
        let (mut rng, dir, history) = (Rng::with_seed(seed), tempfile::tempdir().unwrap(), History::new());
        for _ in 0..LIVES {
            kind.live(dir.path(), &history, &mut rng);
        }
        let report = history.check(&Contract { keeps: Keeps::Nothing, failures_change: false });
        report.assert_sound(format_args!("LARDER_SEED={seed}, {kind:?}"));
        all.add(report);
    }
    println!("schemas, {kind:?}, {count} histories: {all}");
    assert!(all.of(Verdict::Explained) > 0 && all.of(Verdict::Missed) > 0, "nothing was tried: {all}");
}

#[test]
fn values_of_another_schema_on_disk_are_never_read() {
    over(Kind::Disk);
}

#[test]
fn values_of_another_schema_in_files_are_never_read() {
    over(Kind::Files);
}

#[test]
fn values_of_another_schema_in_any_tier_are_never_read() {
    over(Kind::Any);
}
