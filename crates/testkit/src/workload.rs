//! A random workload: mixed calls over few keys, recorded as a history.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use fastrand::Rng;

use crate::history::{Act, Answer, Recorder, Seen};
use crate::schedule::turn;

/// A cache under a workload. An error is distinct from an absent value.
///
/// Sync caches return futures that are ready; [`block_on`](crate::block_on) polls them on
/// a thread.
#[allow(clippy::missing_errors_doc, reason = "those of the cache, which are recorded and not looked at")]
pub trait Subject: Sync {
    /// The error of a call.
    type Error: Send;

    /// Stores a value.
    fn insert(&self, key: u64, value: String) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Removes a key.
    fn remove(&self, key: u64) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Returns the value of a key.
    fn get(&self, key: u64) -> impl Future<Output = Result<Option<String>, Self::Error>> + Send;

    /// Returns the value of a key, loaded if it is absent. `None` from the loader makes
    /// the load fail.
    fn load(
        &self,
        key: u64,
        loader: impl Future<Output = Option<String>> + Send + 'static,
    ) -> impl Future<Output = Result<Option<String>, Self::Error>> + Send;

    /// Removes a key and returns its value.
    fn take(&self, key: u64) -> impl Future<Output = Result<Option<String>, Self::Error>> + Send;

    /// Whether the key has a value.
    fn contains(&self, key: u64) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Removes everything.
    fn clear(&self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Makes acknowledged writes durable.
    fn flush(&self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// The weights of the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// [`Subject::get`]
    pub get: u32,
    /// [`Subject::insert`]
    pub insert: u32,
    /// [`Subject::remove`]
    pub remove: u32,
    /// [`Subject::load`]
    pub load: u32,
    /// [`Subject::take`]
    pub take: u32,
    /// [`Subject::contains`]
    pub contains: u32,
    /// [`Subject::clear`]
    pub clear: u32,
    /// [`Subject::flush`]
    pub flush: u32,
}

impl Weights {
    /// Every call; most are reads and writes.
    pub const ALL: Self =
        Self { get: 40, insert: 25, remove: 8, load: 15, take: 4, contains: 4, clear: 1, flush: 1 };

    /// The calls that every cache has.
    pub const PLAIN: Self =
        Self { get: 50, insert: 35, remove: 15, load: 0, take: 0, contains: 0, clear: 0, flush: 0 };
}

/// The workload of one thread or task.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Keys are below this number.
    pub keys: u64,
    /// The lengths of values.
    pub lens: Vec<usize>,
    /// The weights of the calls.
    pub weights: Weights,
    /// Percentage of loads that fail.
    pub failing_loads: u32,
    /// Percentage of waiting loads and gets that are dropped while they wait.
    pub given_up: u32,
}

impl Workload {
    /// Makes `calls` random calls, one after another.
    pub async fn run<S: Subject>(&self, subject: &S, recorder: &mut Recorder, rng: &mut Rng, calls: usize) {
        for _ in 0..calls {
            self.step(subject, recorder, rng).await;
        }
    }

    /// Reads each key once.
    pub async fn read_all<S: Subject>(&self, subject: &S, recorder: &mut Recorder) {
        for key in 0..self.keys {
            let call = recorder.begin(Act::Get(key));
            let found = subject.get(key).await;
            end_found(recorder, call, found);
        }
    }

    /// Makes one random call.
    pub async fn step<S: Subject>(&self, subject: &S, recorder: &mut Recorder, rng: &mut Rng) {
        let act = self.choose(recorder, rng);
        let call = recorder.begin(act);
        match act {
            Act::Insert(stamp) => {
                let len = self.len(rng);
                let done = subject.insert(stamp.key, stamp.text(len)).await;
                recorder.end_done(call, &done);
            }
            Act::Remove(key) => recorder.end_done(call, &subject.remove(key).await),
            Act::Clear => recorder.end_done(call, &subject.clear().await),
            Act::Flush => recorder.end_done(call, &subject.flush().await),
            Act::Take(key) => end_found(recorder, call, subject.take(key).await),
            Act::Get(key) => {
                if let Some(found) = self.patience(rng, subject.get(key)).await {
                    end_found(recorder, call, found);
                }
            }
            Act::Contains(key) => {
                let held = |held| if held { Answer::Held } else { Answer::Missing };
                recorder.end(call, subject.contains(key).await.map_or(Answer::Failed, held));
            }
            Act::Load(key) => {
                let stamp = recorder.stamp(key);
                let mark = recorder.loader(call, stamp);
                let (fails, len, waits) = (rng.u32(0..100) < self.failing_loads, self.len(rng), rng.bool());
                let loader = async move {
                    mark.begins();
                    if waits {
                        turn().await;
                    }
                    (!fails).then(|| stamp.text(len))
                };
                if let Some(found) = self.patience(rng, subject.load(key, loader)).await {
                    end_found(recorder, call, found);
                }
            }
        }
    }

    fn choose(&self, recorder: &mut Recorder, rng: &mut Rng) -> Act {
        let key = rng.u64(0..self.keys);
        let Weights { get, insert, remove, load, take, contains, clear, flush } = self.weights;
        let weights = [get, remove, load, take, contains, clear, flush];
        let acts = [
            Act::Get(key),
            Act::Remove(key),
            Act::Load(key),
            Act::Take(key),
            Act::Contains(key),
            Act::Clear,
            Act::Flush,
        ];
        let sum = insert + weights.iter().sum::<u32>();
        let mut drawn = rng.u32(0..sum.max(1));
        for (weight, act) in weights.into_iter().zip(acts) {
            if drawn < weight {
                return act;
            }
            drawn -= weight;
        }
        Act::Insert(recorder.stamp(key))
    }

    fn len(&self, rng: &mut Rng) -> usize {
        self.lens.get(rng.usize(0..self.lens.len().max(1))).copied().unwrap_or(0)
    }

    /// Returns the output of a call; `None` if it was dropped when it had to wait.
    async fn patience<T>(&self, rng: &mut Rng, call: impl Future<Output = T> + Send) -> Option<T> {
        let drops_at_first_wait = rng.u32(0..100) < self.given_up;
        DropsAtFirstWait { call: Box::pin(call), drops_at_first_wait }.await
    }
}

fn end_found<E>(recorder: &mut Recorder, call: crate::history::Begun, found: Result<Option<String>, E>) {
    let seen = |text: String| Answer::Found(Seen::of(text.as_bytes()));
    let answer = found.map_or(Answer::Failed, |found| found.map_or(Answer::Missing, seen));
    recorder.end(call, answer);
}

/// A future that may be dropped when it has to wait for the first time.
struct DropsAtFirstWait<F> {
    call: Pin<Box<F>>,
    drops_at_first_wait: bool,
}

impl<F: Future> Future for DropsAtFirstWait<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.call.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.drops_at_first_wait => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}
