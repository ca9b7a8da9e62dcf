//! Compares Larder over Redis with redis-rs on the same kind of connection: one multiplexed TCP connection
//! with `TCP_NODELAY`, driven by its own thread, and used by the calling thread and by a task of a
//! single-threaded runtime. Rounds are interleaved. Values are incompressible and stored as they are: `Bytes`
//! in Larder, `Vec<u8>` in redis-rs, the types that each returns without a copy. Arguments choose sizes:
//! `100`, `10240`, `1044480`; the argument `throughput` chooses 16 threads and 256 tasks at once.
//!
//! `cargo run --release --package larder-compare --bin redis` starts its own `redis-server`. By default glibc
//! returns blocks of a megabyte to the system and allocates them again, which costs more than a call: with
//! `MALLOC_TRIM_THRESHOLD_` and `MALLOC_MMAP_THRESHOLD_` at 1000000000 it keeps them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement ends where it fails")]
#![allow(clippy::print_stdout, reason = "it prints what it measured")]

#[allow(dead_code, reason = "other benches use the rest")]
#[path = "../harness.rs"]
mod harness;

use std::hint::black_box;

use harness::Row;
use larder::{AsyncCache, Bytes, Cache, Compress, ucache};
use larder_testkit::{RedisServer, block_on, sample};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, AsyncConnectionConfig, Client, IntoConnectionInfo};
use tokio::runtime::{Builder, Runtime};
use xxhash_rust::xxh3::xxh3_64;

/// Many short rounds, so that other load on the machine affects few of them.
const ROUNDS: usize = 300;
/// The number of keys, used in turn: more than calls at once, so that none waits for another of its key.
const KEYS: usize = 1024;

fn main() {
    let Some(server) = RedisServer::start() else { return };
    let driver = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let tasks = Builder::new_current_thread().enable_all().build().unwrap();
    let wanted: Vec<usize> = std::env::args().skip(1).filter_map(|size| size.parse().ok()).collect();
    let throughput_only = std::env::args().any(|argument| argument == "throughput");
    let raw = driver.block_on(connect(&server.url()));
    let caches = caches(&server);
    block_on(raw.clone().set::<_, _, ()>("raw:mark", "0123456789abcdef")).unwrap();
    for (bytes, name, operations) in
        [(100, "100 B", 50), (10 << 10, "10 KiB", 50), ((1 << 20) - 4096, "1 MiB less 4 KiB", 4)]
    {
        if throughput_only || !wanted.is_empty() && !wanted.contains(&bytes) {
            continue;
        }
        let value = sample::payload(1, bytes);
        for key in 0..KEYS {
            caches.0.insert(key as u64, Bytes::copy_from_slice(&value));
            block_on(raw.clone().set::<_, _, ()>(name_of(key), &value[..])).unwrap();
        }
        threads((name, operations), &raw, &caches.0, &value);
        in_tasks((name, operations), (&raw, &tasks), &caches.1, &value);
    }
    if wanted.is_empty() && !throughput_only {
        batch(&server, &raw, &caches.0);
    }
    if wanted.is_empty() {
        threads_at_once(&raw, &caches.0);
        tasks_at_once(&server, &caches.1);
    }
}

async fn connect(url: &str) -> MultiplexedConnection {
    let info = url.into_connection_info().unwrap();
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    let client = Client::open(info.set_tcp_settings(tcp)).unwrap();
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

/// Without memory, so that every call is a round trip.
fn caches(server: &RedisServer) -> (Cache<u64, Bytes>, AsyncCache<u64, Bytes>) {
    let cache = ucache::<u64, Bytes>("compare").redis(server.url()).namespace("bench").memory_bytes(0);
    let cache = cache.compress(Compress::None).build().unwrap();
    let tasks = cache.to_async();
    (cache, tasks)
}

fn name_of(key: usize) -> String {
    format!("raw:{}", key % KEYS)
}

fn key_of(operation: usize) -> u64 {
    (operation % KEYS) as u64
}

fn threads(
    (name, operations): (&str, usize),
    raw: &MultiplexedConnection,
    cache: &Cache<u64, Bytes>,
    value: &[u8],
) {
    let get = |at| block_on(raw.clone().get::<_, Vec<u8>>(name_of(at))).unwrap();
    Row::new(format!("get, {name}, a thread"), operations)
        .rounds(ROUNDS)
        .with("redis-rs", |at| assert_eq!(get(at).len(), value.len()))
        .with("larder", |at| assert_eq!(cache.get(&key_of(at)).unwrap().len(), value.len()))
        .with("redis-rs, with a mark", |at| {
            let names = ["raw:mark".to_owned(), name_of(at)];
            let mut raw = raw.clone();
            let both = raw.mget::<_, Vec<Vec<u8>>>(&names);
            assert_eq!(block_on(both).unwrap()[1].len(), value.len());
        })
        // Adds the cost of reading the received value, which the driver thread has in its CPU cache.
        .with("redis-rs, and xxh3 of it", |at| _ = black_box(xxh3_64(&get(at))))
        .run();
    Row::new(format!("set, {name}, a thread"), operations)
        .rounds(ROUNDS)
        .with("redis-rs", |at| block_on(raw.clone().set::<_, _, ()>(name_of(at), value.to_owned())).unwrap())
        .with("larder", |at| cache.insert(key_of(at), Bytes::copy_from_slice(value)))
        .run();
}

fn in_tasks(
    (name, operations): (&str, usize),
    (raw, tasks): (&MultiplexedConnection, &Runtime),
    cache: &AsyncCache<u64, Bytes>,
    value: &[u8],
) {
    let get = |at| tasks.block_on(raw.clone().get::<_, Vec<u8>>(name_of(at))).unwrap();
    Row::new(format!("get, {name}, a task"), operations)
        .rounds(ROUNDS)
        .with("redis-rs", |at| assert_eq!(get(at).len(), value.len()))
        .with("larder", |at| {
            assert_eq!(tasks.block_on(cache.get(&key_of(at))).unwrap().len(), value.len());
        })
        .run();
    Row::new(format!("set, {name}, a task"), operations)
        .rounds(ROUNDS)
        .with("redis-rs", |at| {
            tasks.block_on(raw.clone().set::<_, _, ()>(name_of(at), value.to_owned())).unwrap()
        })
        .with("larder", |at| tasks.block_on(cache.insert(key_of(at), Bytes::copy_from_slice(value))))
        .run();
}

/// A hundred keys in each call; also prints how often the server read from its socket.
fn batch(server: &RedisServer, raw: &MultiplexedConnection, cache: &Cache<u64, Bytes>) {
    let value = vec![7_u8; 100];
    let keys: Vec<u64> = (1000..1100).collect();
    let names: Vec<String> = keys.iter().map(|key| format!("raw:{key}")).collect();
    for (key, name) in keys.iter().zip(&names) {
        cache.insert(*key, Bytes::copy_from_slice(&value));
        block_on(raw.clone().set::<_, _, ()>(name, &value[..])).unwrap();
    }
    Row::new("get of 100 keys, 100 B, a thread; an operation is a batch", 200)
        .with("redis-rs", |_| {
            assert_eq!(block_on(raw.clone().mget::<_, Vec<Vec<u8>>>(&names)).unwrap().len(), 100);
        })
        .with("larder", |_| assert!(cache.get_many(&keys).iter().all(Option::is_some)))
        .run();
    let before = server.info("total_reads_processed");
    (0..1000).for_each(|_| assert!(cache.get_many(&keys).iter().all(Option::is_some)));
    let reads = server.info("total_reads_processed") - before;
    println!(
        "\n1000 batches of 100: the server read {reads} times, signs of life and this question among them"
    );
}

/// The throughput of 16 threads that share a connection: an operation is a call of each of them, so that
/// 1.1 as the ratio of the times is 0.91 as the ratio of the operations a second.
fn threads_at_once(raw: &MultiplexedConnection, cache: &Cache<u64, Bytes>) {
    const THREADS: usize = 16;
    const CALLS: usize = 200;
    let value = &sample::payload(1, 100)[..];
    let get = |at| assert_eq!(block_on(raw.clone().get::<_, Vec<u8>>(name_of(at))).unwrap().len(), 100);
    let set = |at| block_on(raw.clone().set::<_, _, ()>(name_of(at), value.to_owned())).unwrap();
    let spread = |call: &(dyn Fn(usize) + Sync)| {
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || (0..CALLS).for_each(|at| call(at * THREADS + thread)));
            }
        });
    };
    (0..KEYS).for_each(set);
    (0..KEYS).for_each(|key| cache.insert(key as u64, Bytes::copy_from_slice(value)));
    Row::new(format!("{THREADS} threads, {CALLS} gets of 100 B each; an operation is all of them"), 1)
        .rounds(ROUNDS / 5)
        .with("redis-rs", |_| spread(&get))
        .with("larder", |_| spread(&|at| assert_eq!(cache.get(&key_of(at)).unwrap().len(), 100)))
        .run();
    Row::new(format!("{THREADS} threads, {CALLS} sets of 100 B each; an operation is all of them"), 1)
        .rounds(ROUNDS / 5)
        .with("redis-rs", |_| spread(&set))
        .with("larder", |_| spread(&|at| cache.insert(key_of(at), Bytes::copy_from_slice(value))))
        .run();
}

/// The throughput of 256 tasks on a runtime of two threads, which also drives the connection of redis-rs.
fn tasks_at_once(server: &RedisServer, cache: &AsyncCache<u64, Bytes>) {
    const TASKS: usize = 256;
    const CALLS: usize = 20;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let raw = runtime.block_on(connect(&server.url()));
    let value = sample::payload(1, 100);
    let spread = |call: &dyn Fn(usize) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        let tasks: Vec<_> = (0..TASKS).map(|task| runtime.spawn(call(task))).collect();
        runtime.block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
    };
    Row::new(format!("{TASKS} tasks, {CALLS} gets of 100 B each; an operation is all of them"), 1)
        .rounds(ROUNDS / 5)
        .with("redis-rs", |_| {
            spread(&|first| {
                let mut raw = raw.clone();
                Box::pin(async move {
                    for at in (first..).step_by(TASKS).take(CALLS) {
                        assert_eq!(raw.get::<_, Vec<u8>>(name_of(at)).await.unwrap().len(), 100);
                    }
                })
            });
        })
        .with("larder", |_| {
            spread(&|first| {
                let cache = cache.clone();
                Box::pin(async move {
                    for at in (first..).step_by(TASKS).take(CALLS) {
                        assert_eq!(cache.get(&key_of(at)).await.unwrap().len(), 100);
                    }
                })
            });
        })
        .run();
    Row::new(format!("{TASKS} tasks, {CALLS} sets of 100 B each; an operation is all of them"), 1)
        .rounds(ROUNDS / 5)
        .with("redis-rs", |_| {
            spread(&|first| {
                let (mut raw, value) = (raw.clone(), value.to_vec());
                Box::pin(async move {
                    for at in (first..).step_by(TASKS).take(CALLS) {
                        raw.set::<_, _, ()>(name_of(at), &value[..]).await.unwrap();
                    }
                })
            });
        })
        .with("larder", |_| {
            spread(&|first| {
                let (cache, value) = (cache.clone(), value.clone());
                Box::pin(async move {
                    for at in (first..).step_by(TASKS).take(CALLS) {
                        cache.insert(key_of(at), value.clone()).await;
                    }
                })
            });
        })
        .run();
}
