//! Single flight: one miss runs one load, however the leader ends.

use std::any::TypeId;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use larder::{LoadContext, mcache};
use larder_core::erased::{Key, Value};
use larder_engine::{Answered, Boxed, LoadRequest, Loaded, Loader};
use larder_exec::runtime::{Blocking, Tokio, block_on};
use larder_testkit::ManualClock;

use crate::director::{ended, is_struck, orders, task, thread, turn};
use crate::fixtures::{Plan, TestEngine};
use crate::scenario::{End, Scenario};
use crate::suspending_tier::SuspendingTier;

#[test]
fn threads_and_tasks_share_one_load() {
    orders(|| {
        let scenario = Scenario::memory();
        let threads = [(); 2]
            .map(|()| scenario.clone())
            .map(|scenario| thread(move || block_on(scenario.load::<Blocking>())));
        let tasks = [(); 2]
            .map(|()| scenario.clone())
            .map(|scenario| task(async move { scenario.load::<Tokio>().await }));
        for each in threads {
            each.join().unwrap();
        }
        for each in tasks {
            ended(each);
        }
        assert_eq!(scenario.loads(), 1);
        scenario.judge();
    });
}

#[test]
fn threads_and_tasks_share_one_load_over_a_tier() {
    orders(|| {
        let scenario = Scenario::over(&SuspendingTier::new());
        let in_thread = scenario.clone();
        let in_thread = thread(move || block_on(in_thread.load::<Blocking>()));
        let tasks = [(); 2]
            .map(|()| scenario.clone())
            .map(|scenario| task(async move { scenario.load::<Tokio>().await }));
        in_thread.join().unwrap();
        for each in tasks {
            ended(each);
        }
        assert_eq!(scenario.loads(), 1);
        scenario.judge();
    });
}

/// After the leader panics, one waiter leads.
#[test]
fn one_waiter_leads_after_a_panic() {
    orders(|| {
        let scenario = Scenario::memory();
        let ends = |number| if number == 0 { End::Panic } else { End::Value };
        let callers = [(); 3].map(|()| {
            let scenario = scenario.clone();
            thread(move || is_struck(|| block_on(scenario.try_load::<Blocking>(ends))))
        });
        let results = callers.map(|caller| caller.join().unwrap());
        let struck = results.iter().filter(|result| result.is_err()).count();
        assert_eq!((struck, scenario.loads()), (1, 2));
        assert!(results.into_iter().flatten().all(|loaded| loaded.is_ok()));
    });
}

/// At most one more loader begins than leaders were cancelled.
#[test]
fn one_waiter_leads_after_a_cancellation() {
    orders(|| {
        let scenario = Scenario::memory();
        let mortal = [(); 2].map(|()| {
            let scenario = scenario.clone();
            task(async move { scenario.load::<Tokio>().await })
        });
        let (in_thread, in_task) = (scenario.clone(), scenario.clone());
        let in_thread = thread(move || block_on(in_thread.load::<Blocking>()));
        let in_task = task(async move { in_task.load::<Tokio>().await });
        mortal.iter().for_each(|task| task.abort());
        in_thread.join().unwrap();
        ended(in_task);
        let cancelled = mortal.into_iter().filter_map(|task| shuttle::future::block_on(task).err()).count();
        assert!(
            (1..=1 + cancelled).contains(&scenario.loads()),
            "{} loads, {cancelled} cancelled",
            scenario.loads()
        );
        scenario.judge();
    });
}

/// Waiters share the failure. Later callers load again.
#[test]
fn failure_is_shared_and_not_stored() {
    orders(|| {
        let scenario = Scenario::memory();
        let ends = |number| if number == 0 { End::Error } else { End::Value };
        let in_threads = [(); 2].map(|()| {
            let scenario = scenario.clone();
            thread(move || block_on(scenario.try_load::<Blocking>(ends)))
        });
        let in_task = scenario.clone();
        let in_task = task(async move { in_task.try_load::<Tokio>(ends).await });
        let results = in_threads.map(|thread| thread.join().unwrap());
        let failed = results.iter().chain([&ended(in_task)]).filter(|result| result.is_err()).count();
        assert!(failed >= 1);
        assert_eq!(scenario.loads(), if failed == 3 { 1 } else { 2 });
        scenario.judge();
    });
}

/// The time without a poll after which a leader is taken over, in the scene below.
const STALL: Duration = Duration::from_secs(60);

/// A leader continues after a stall while others take over its load. In any order one of the loaded
/// values is stored, and every caller gets an answer.
#[test]
fn leader_that_continues_during_a_takeover_is_sound() {
    orders(|| {
        let clock = ManualClock::default();
        let plan = Plan { clock: clock.clone(), stall: Some(STALL), ..Plan::over(vec![]) };
        let scenario = Scenario::of(plan);
        let led = scenario.clone();
        let led = thread(move || {
            let mut load = pin!(led.load::<Tokio>());
            if load.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                clock.advance(STALL);
                block_on(load);
            }
        });
        let (in_thread, in_task) = (scenario.clone(), scenario.clone());
        let in_thread = thread(move || block_on(in_thread.load::<Blocking>()));
        let in_task = task(async move { in_task.load::<Tokio>().await });
        led.join().unwrap();
        in_thread.join().unwrap();
        ended(in_task);
        let counts = scenario.engine.stats().cache;
        assert_eq!((counts.published, counts.loads), (1, 1 + counts.superseded));
        assert!(counts.superseded <= counts.takeovers, "{counts:?}");
        scenario.judge();
    });
}

/// A detached load of a task, which cannot fail.
async fn load<Fut>(engine: &TestEngine, key: u64, loader: impl FnOnce() -> Fut + Send + 'static) -> String
where
    Fut: Future<Output = String> + Send + 'static,
{
    let loader = move |_: LoadContext<Value>| -> Boxed<'static, Answered> {
        let value = loader();
        Box::pin(async { Ok(Loaded::Value(Value::new(value.await))) })
    };
    let loader = Loader::Task(Box::new(loader));
    let request = LoadRequest { loader, error: TypeId::of::<()>(), absence: false };
    let loaded = engine.tasks().load(Key::new(key), request).await.unwrap();
    loaded.and_then(Value::into_inner).unwrap()
}

/// A detached load continues without its first caller.
#[test]
fn detached_load_survives_its_callers() {
    orders(|| {
        let (scenario, begun) = (Scenario::memory(), Arc::new(AtomicUsize::new(0)));
        let load = || {
            let (engine, begun) = (Arc::clone(&scenario.engine), Arc::clone(&begun));
            async move {
                let loader = move || async move {
                    begun.fetch_add(1, Ordering::Relaxed);
                    turn().await;
                    "loaded".to_owned()
                };
                load(&engine, 1, loader).await
            }
        };
        let (mortal, other) = (task(load()), task(load()));
        mortal.abort();
        assert_eq!(ended(other), "loaded");
        let _cancelled = shuttle::future::block_on(mortal);
        assert_eq!(begun.load(Ordering::Relaxed), 1);
    });
}

/// Loads with a time limit run on threads of the library, which end afterwards.
#[test]
fn loads_with_a_time_limit_run_once_per_key() {
    orders(|| {
        let cache = mcache::<u64, u64>("limited").capacity(8).hard_timeout(Duration::from_secs(60));
        let (cache, begun) = (cache.build().unwrap(), Arc::new(AtomicUsize::new(0)));
        let callers = [1, 2, 1].map(|key| {
            let (cache, begun) = (cache.clone(), Arc::clone(&begun));
            let loader = move |_: LoadContext<u64>| {
                begun.fetch_add(1, Ordering::Relaxed);
                Ok::<u64, ()>(10 * key)
            };
            thread(move || cache.load(key, loader).unwrap())
        });
        assert_eq!(callers.map(|caller| caller.join().unwrap()), [10, 20, 10]);
        assert_eq!(begun.load(Ordering::Relaxed), 2);
    });
}
