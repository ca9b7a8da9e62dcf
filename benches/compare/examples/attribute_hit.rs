//! What a hit costs through an attribute, beside a `get_with` written by hand on
//! the same cache. Counted in instructions; `docs/performance.md` has the command.

#![allow(clippy::print_stdout, reason = "a measurement for people")]

use std::env::args;
use std::hint::black_box;

use larder::mcache;
// Under valgrind the wall clock of the system cannot be read; a hit reads none.
use larder_testkit::ManualClock;

#[mcache(clock = ManualClock::default())]
fn square(n: u64) -> u64 {
    n * n
}

#[mcache(clock = ManualClock::default())]
fn joined(n: u64, text: &str) -> u64 {
    n + text.len() as u64
}

#[mcache(clock = ManualClock::default())]
fn fallible(n: u64) -> Result<u64, String> {
    n.checked_mul(n).ok_or_else(String::new)
}

#[mcache(clock = ManualClock::default(), tags = [format!("number:{n}")])]
fn tagged(n: u64) -> u64 {
    n * n
}

#[mcache(clock = ManualClock::default(), batch)]
fn batch(keys: &[u64]) -> Vec<u64> {
    keys.iter().map(|n| n * n).collect()
}

struct Scale(u64);

impl Scale {
    #[mcache(clock = ManualClock::default(), key = "(self.0, n)")]
    fn times(&self, n: u64) -> u64 {
        self.0 * n
    }
}

#[mcache(clock = ManualClock::default())]
async fn in_a_task(n: u64) -> u64 {
    n * n
}

const TEXT: &str = "some text of a few words";

/// Calls of a few arguments, so that all but the first of each are hits.
macro_rules! calls {
    ($calls:ident, $n:ident => $call:expr) => {{
        let mut sum = 0_u64;
        for call in 0..$calls {
            let $n = black_box(call % 64);
            sum = sum.wrapping_add($call);
        }
        sum
    }};
}

fn sixteen(n: u64) -> [u64; 16] {
    std::array::from_fn(|more| n + more as u64)
}

async fn run(which: &str, calls: u64) -> larder::Result<u64> {
    let scale = black_box(Scale(3));
    Ok(match which {
        "square" => calls!(calls, n => square(n)),
        "joined" => calls!(calls, n => joined(n, black_box(TEXT))),
        "fallible" => calls!(calls, n => fallible(n).unwrap_or(0)),
        "times" => calls!(calls, n => scale.times(n)),
        "tagged" => calls!(calls, n => tagged(n)),
        "batch" => calls!(calls, n => batch(&sixteen(n)).iter().sum::<u64>()),
        "task" => calls!(calls, n => in_a_task(n).await),
        _ => by_hand(which, calls).await?,
    })
}

/// The same on the caches of the functions, without the attributes.
async fn by_hand(which: &str, calls: u64) -> larder::Result<u64> {
    let scale = black_box(Scale(3));
    Ok(match which {
        "square-by-hand" => {
            let cache = square::cache()?;
            calls!(calls, n => cache.get_with(n, || n * n))
        }
        "joined-by-hand" => {
            let cache = joined::cache()?;
            calls!(calls, n => cache.get_with((n, black_box(TEXT).to_owned()), || n))
        }
        "fallible-by-hand" => {
            let cache = fallible::cache()?;
            calls!(calls, n => cache.try_get_with(n, || n.checked_mul(n).ok_or_else(String::new)).unwrap_or(0))
        }
        "times-by-hand" => {
            let cache = larder::mcache::<(u64, u64), u64>("times").clock(ManualClock::default()).build()?;
            calls!(calls, n => cache.get_with((scale.0, n), || scale.0 * n))
        }
        "tagged-by-hand" => {
            let cache = tagged::cache()?;
            calls!(calls, n => cache.get_with(n, || n * n))
        }
        "batch-by-hand" => {
            let cache = batch::cache()?;
            let load = |missing: Vec<u64>| missing.into_iter().map(|n| (n, n * n)).collect::<Vec<_>>();
            calls!(calls, n => cache.get_many_with(sixteen(n), load).iter().flatten().sum::<u64>())
        }
        "task-by-hand" => {
            let cache = in_a_task::cache().await?;
            calls!(calls, n => cache.get_with(n, async move { n * n }).await)
        }
        _ => 0,
    })
}

fn main() -> larder::Result<()> {
    let mut given = args().skip(1);
    let which = given.next().unwrap_or_default();
    let calls = given.next().and_then(|calls| calls.parse().ok()).unwrap_or(10_000);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    println!("{calls} calls of {which}: {}", runtime.block_on(run(&which, calls))?);
    Ok(())
}
