//! Operations over Redis for callgrind and strace to count: `redis_operation URL CASE OPERATIONS`.
//!
//! The cost of an operation is the difference of two runs, divided by the difference of their operations.
//! Cases: `get`, `set` from a thread; `get_many` of 100 keys, an operation a key; `get_tasks`, `set_tasks` from 256 tasks of a runtime of one thread; and
//! the same of redis-rs with `raw_` before the name. The values have 100 bytes, stored as they are.
#![allow(clippy::print_stderr, clippy::unwrap_used, clippy::panic, reason = "a program for measurements")]

use larder::{Bytes, Compress, ucache};
use larder_testkit::{block_on, sample};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, AsyncConnectionConfig, Client, IntoConnectionInfo};
use tokio::runtime::Builder;

const KEYS: u64 = 4096;
const TASKS: u64 = 256;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, case, operations] = &arguments[..] else {
        eprintln!("usage: redis_operation URL CASE OPERATIONS");
        return;
    };
    let operations: u64 = operations.parse().unwrap();
    let value = sample::payload(1, 100);
    match case.strip_prefix("raw_") {
        Some(case) => redis_rs(url, case, operations, &value),
        None => larder(url, case, operations, &value),
    }
}

fn larder(url: &str, case: &str, operations: u64, value: &Bytes) {
    let cache = ucache::<u64, Bytes>("operations").redis(url).namespace("bench").memory_bytes(0);
    let cache = cache.compress(Compress::None).build().unwrap();
    (0..KEYS).for_each(|key| cache.insert(key, value.clone()));
    let keys = (0..operations).map(|at| at % KEYS);
    match case {
        "get" => keys.for_each(|key| assert!(cache.get(&key).is_some())),
        "set" => keys.for_each(|key| cache.insert(key, value.clone())),
        "get_many" => {
            for first in (0..operations).step_by(100) {
                let keys: Vec<u64> = (first..first + 100).map(|key| key % KEYS).collect();
                assert!(cache.get_many(&keys).iter().all(Option::is_some));
            }
        }
        case => {
            let (cache, value) = (cache.to_async(), value.clone());
            let is_get = case == "get_tasks";
            in_tasks(operations, move |key| {
                let (cache, value) = (cache.clone(), value.clone());
                async move {
                    match is_get {
                        true => assert!(cache.get(&key).await.is_some()),
                        false => cache.insert(key, value).await,
                    }
                }
            });
        }
    }
}

fn redis_rs(url: &str, case: &str, operations: u64, value: &Bytes) {
    let driver = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut raw = driver.block_on(connect(url));
    let name = |key: u64| format!("raw:{key}");
    (0..KEYS).for_each(|key| block_on(raw.set::<_, _, ()>(name(key), &value[..])).unwrap());
    let keys = (0..operations).map(|at| at % KEYS);
    match case {
        "get" => {
            keys.for_each(|key| assert_eq!(block_on(raw.get::<_, Vec<u8>>(name(key))).unwrap().len(), 100))
        }
        "set" => keys.for_each(|key| block_on(raw.set::<_, _, ()>(name(key), value.to_vec())).unwrap()),
        "get_many" => {
            for first in (0..operations).step_by(100) {
                let names: Vec<String> = (first..first + 100).map(|key| name(key % KEYS)).collect();
                assert_eq!(block_on(raw.mget::<_, Vec<Vec<u8>>>(&names)).unwrap().len(), 100);
            }
        }
        case => {
            let (is_get, value) = (case == "get_tasks", value.clone());
            in_tasks(operations, move |key| {
                let (mut raw, value) = (raw.clone(), value.clone());
                async move {
                    match is_get {
                        true => assert_eq!(raw.get::<_, Vec<u8>>(name(key)).await.unwrap().len(), 100),
                        false => raw.set(name(key), value.to_vec()).await.unwrap(),
                    }
                }
            });
        }
    }
}

/// Spreads the operations over the tasks of a runtime.
fn in_tasks<F: Future<Output = ()> + Send>(
    operations: u64,
    operate: impl Fn(u64) -> F + Clone + Send + Sync + 'static,
) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let operate = operate.clone();
            runtime.spawn(async move {
                for at in 0..operations / TASKS {
                    operate((task + at * TASKS) % KEYS).await;
                }
            })
        })
        .collect();
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
}

async fn connect(url: &str) -> MultiplexedConnection {
    let info = url.into_connection_info().unwrap();
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    let client = Client::open(info.set_tcp_settings(tcp)).unwrap();
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}
