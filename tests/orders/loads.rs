//! One miss, one load: whoever asks, and whatever becomes of the leader.

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
use crate::far::Far;
use crate::fixtures::{Plan, Rig};
use crate::stage::{End, Stage};

#[test]
fn threads_and_tasks_make_one_load() {
    orders(|| {
        let stage = Stage::memory();
        let threads =
            [(); 2].map(|()| stage.clone()).map(|stage| thread(move || block_on(stage.load::<Blocking>())));
        let tasks =
            [(); 2].map(|()| stage.clone()).map(|stage| task(async move { stage.load::<Tokio>().await }));
        for each in threads {
            each.join().unwrap();
        }
        for each in tasks {
            ended(each);
        }
        assert_eq!(stage.loads(), 1);
        stage.judge();
    });
}

#[test]
fn threads_and_tasks_make_one_load_over_a_tier() {
    orders(|| {
        let stage = Stage::over(&Far::new());
        let in_thread = stage.clone();
        let in_thread = thread(move || block_on(in_thread.load::<Blocking>()));
        let tasks =
            [(); 2].map(|()| stage.clone()).map(|stage| task(async move { stage.load::<Tokio>().await }));
        in_thread.join().unwrap();
        for each in tasks {
            ended(each);
        }
        assert_eq!(stage.loads(), 1);
        stage.judge();
    });
}

/// The leader is gone with its panic, and one of those who wait leads next.
#[test]
fn after_a_panic_one_of_those_who_wait_leads() {
    orders(|| {
        let stage = Stage::memory();
        let ends = |number| if number == 0 { End::Panic } else { End::Value };
        let callers = [(); 3].map(|()| {
            let stage = stage.clone();
            thread(move || is_struck(|| block_on(stage.try_load::<Blocking>(ends))))
        });
        let results = callers.map(|caller| caller.join().unwrap());
        let struck = results.iter().filter(|result| result.is_err()).count();
        assert_eq!((struck, stage.loads()), (1, 2));
        assert!(results.into_iter().flatten().all(|loaded| loaded.is_ok()));
    });
}

/// As many loaders begin as leaders were cancelled, and one more at most.
#[test]
fn after_a_cancellation_one_of_those_who_wait_leads() {
    orders(|| {
        let stage = Stage::memory();
        let mortal = [(); 2].map(|()| {
            let stage = stage.clone();
            task(async move { stage.load::<Tokio>().await })
        });
        let (in_thread, in_task) = (stage.clone(), stage.clone());
        let in_thread = thread(move || block_on(in_thread.load::<Blocking>()));
        let in_task = task(async move { in_task.load::<Tokio>().await });
        mortal.iter().for_each(|task| task.abort());
        in_thread.join().unwrap();
        ended(in_task);
        let cancelled = mortal.into_iter().filter_map(|task| shuttle::future::block_on(task).err()).count();
        assert!(
            (1..=1 + cancelled).contains(&stage.loads()),
            "{} loads, {cancelled} cancelled",
            stage.loads()
        );
        stage.judge();
    });
}

/// Those who joined share the failure; who came later loads again.
#[test]
fn a_failure_is_shared_and_stored_nowhere() {
    orders(|| {
        let stage = Stage::memory();
        let ends = |number| if number == 0 { End::Error } else { End::Value };
        let in_threads = [(); 2].map(|()| {
            let stage = stage.clone();
            thread(move || block_on(stage.try_load::<Blocking>(ends)))
        });
        let in_task = stage.clone();
        let in_task = task(async move { in_task.try_load::<Tokio>(ends).await });
        let results = in_threads.map(|thread| thread.join().unwrap());
        let failed = results.iter().chain([&ended(in_task)]).filter(|result| result.is_err()).count();
        assert!(failed >= 1);
        assert_eq!(stage.loads(), if failed == 3 { 1 } else { 2 });
        stage.judge();
    });
}

/// How long a leader may be left unpolled in the scene below.
const STALL: Duration = Duration::from_secs(60);

/// A leader was left unpolled for too long, and goes on while others take its key
/// over: whichever comes first, one of what was loaded is stored, and all is answered.
#[test]
fn a_leader_that_goes_on_while_it_is_taken_over() {
    orders(|| {
        let clock = ManualClock::default();
        let plan = Plan { clock: clock.clone(), stall: Some(STALL), ..Plan::over(vec![]) };
        let stage = Stage::of(plan);
        let led = stage.clone();
        let led = thread(move || {
            let mut load = pin!(led.load::<Tokio>());
            if load.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                clock.advance(STALL);
                block_on(load);
            }
        });
        let (in_thread, in_task) = (stage.clone(), stage.clone());
        let in_thread = thread(move || block_on(in_thread.load::<Blocking>()));
        let in_task = task(async move { in_task.load::<Tokio>().await });
        led.join().unwrap();
        in_thread.join().unwrap();
        ended(in_task);
        let counts = stage.rig.stats().cache;
        assert_eq!((counts.published, counts.loads), (1, 1 + counts.superseded));
        assert!(counts.superseded <= counts.takeovers, "{counts:?}");
        stage.judge();
    });
}

/// A load of a task that does not depend on its caller, and cannot fail.
async fn load<Fut>(rig: &Rig, key: u64, loader: impl FnOnce() -> Fut + Send + 'static) -> String
where
    Fut: Future<Output = String> + Send + 'static,
{
    let loader = move |_: LoadContext<Value>| -> Boxed<'static, Answered> {
        let value = loader();
        Box::pin(async { Ok(Loaded::Value(Value::new(value.await))) })
    };
    let loader = Loader::Task(Box::new(loader));
    let request = LoadRequest { loader, error: TypeId::of::<()>(), absence: false };
    let loaded = rig.tasks().load(Key::new(key), request).await.unwrap();
    loaded.and_then(Value::into_inner).unwrap()
}

/// A flight of its own goes on without its first caller.
#[test]
fn a_detached_load_survives_its_callers() {
    orders(|| {
        let (stage, begun) = (Stage::memory(), Arc::new(AtomicUsize::new(0)));
        let load = || {
            let (rig, begun) = (Arc::clone(&stage.rig), Arc::clone(&begun));
            async move {
                let loader = move || async move {
                    begun.fetch_add(1, Ordering::Relaxed);
                    turn().await;
                    "loaded".to_owned()
                };
                load(&rig, 1, loader).await
            }
        };
        let (mortal, other) = (task(load()), task(load()));
        mortal.abort();
        assert_eq!(ended(other), "loaded");
        let _cancelled = shuttle::future::block_on(mortal);
        assert_eq!(begun.load(Ordering::Relaxed), 1);
    });
}

/// Loads with a limit run on threads of the library, which go when they are done.
#[test]
fn loads_with_a_limit_are_made_once_each() {
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
