//! Servers that fail in turn while a history runs.

use std::thread;
use std::time::Duration;

use fastrand::Rng;
use larder_testkit::{Proxy, RedisServer};

use super::server::{Fault, Server};

/// The connection of one history to a Redis server.
pub(crate) struct Redis<'a> {
    proxy: Proxy,
    server: &'a RedisServer,
}

/// What happens to Redis.
#[derive(Clone, Copy, Debug)]
enum RedisFault {
    /// Answers after this time.
    Slow(Duration),
    /// The connections end.
    Cut,
    /// Carries out the requests; their answers are lost.
    Unanswered,
    /// Nothing arrives.
    Silent,
    /// Refuses writes.
    Full,
}

impl<'a> Redis<'a> {
    pub(crate) fn of(server: &'a RedisServer) -> Self {
        Self { proxy: Proxy::to(server.port()), server }
    }

    pub(crate) fn url(&self) -> String {
        self.proxy.url()
    }

    fn fail(&self, fault: RedisFault) {
        match fault {
            RedisFault::Slow(time) => self.proxy.delay(time),
            RedisFault::Cut => self.proxy.cut(),
            RedisFault::Unanswered => self.proxy.swallow_answers(true),
            RedisFault::Silent => self.proxy.swallow(true),
            RedisFault::Full => drop(self.server.cli(&["CONFIG", "SET", "maxmemory", "1"])),
        }
    }

    fn heal(&self, fault: RedisFault) {
        match fault {
            RedisFault::Slow(_) => self.proxy.delay(Duration::ZERO),
            RedisFault::Cut => {}
            RedisFault::Unanswered | RedisFault::Silent => {
                self.proxy.swallow_answers(false);
                self.proxy.swallow(false);
                // What was swallowed is missing in the stream of every connection.
                self.proxy.cut();
            }
            RedisFault::Full => drop(self.server.cli(&["CONFIG", "SET", "maxmemory", "0"])),
        }
    }
}

/// Lets the servers fail at random until `is_over`, and heals them.
pub(crate) fn make((s3, redis): (&Server, Option<&Redis<'_>>), rng: &mut Rng, is_over: impl Fn() -> bool) {
    let of_s3 = [
        Fault::Slow(Duration::from_millis(20)),
        Fault::SlowWrites(Duration::from_millis(20)),
        Fault::Status500,
        Fault::Throttled,
        Fault::Half,
        Fault::Unanswered,
        Fault::Gone,
    ];
    let of_redis = [
        RedisFault::Slow(Duration::from_millis(5)),
        RedisFault::Cut,
        RedisFault::Unanswered,
        RedisFault::Silent,
        RedisFault::Full,
    ];
    while !is_over() {
        // Sometimes both fail at once.
        let fails = rng.u8(0..3);
        if redis.is_none() || fails != 0 {
            s3.fail(*rng.choice(&of_s3).unwrap());
        }
        let fault = redis.filter(|_| fails != 1).map(|redis| (redis, *rng.choice(&of_redis).unwrap()));
        if let Some((redis, fault)) = fault {
            redis.fail(fault);
        }
        thread::park_timeout(Duration::from_millis(rng.u64(1..40)));
        s3.heal();
        if let Some((redis, fault)) = fault {
            redis.heal(fault);
        }
        thread::park_timeout(Duration::from_millis(rng.u64(1..40)));
    }
}
