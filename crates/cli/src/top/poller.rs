//! The thread that asks the observed processes.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::live::{ProcessReading, Processes};

/// The cache whose keys and events are shown: its process, and its number there.
pub(super) type CacheId = (u64, u64);

/// The most hot keys and events to ask for.
const KEYS: usize = 64;
const EVENTS: usize = 100;

/// A request of the user.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    pub(super) cache: CacheId,
    /// What it is, for the title of the answer.
    pub(super) title: String,
    pub(super) content: Json,
}

/// What the thread found out.
#[derive(Debug)]
pub(super) enum Message {
    Reading(Reading),
    Answer(String, Json),
}

/// One look at all processes.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) at: Instant,
    pub(super) processes: Vec<ProcessReading>,
    /// The keys and events of the watched cache.
    pub(super) watched: Option<Watched>,
}

#[derive(Debug)]
pub(super) struct Watched {
    pub(super) cache: CacheId,
    pub(super) hot: Json,
    pub(super) dear: Json,
    pub(super) events: Json,
}

pub(super) struct Poller {
    requests: Sender<Request>,
    messages: Receiver<Message>,
    watched: Arc<Mutex<Option<CacheId>>>,
}

impl Poller {
    pub(super) fn start(mut processes: Processes, interval: Duration) -> io::Result<Self> {
        let (requests, asked) = mpsc::channel::<Request>();
        let (messages, received) = mpsc::channel();
        let watched = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&watched);
        thread::Builder::new().name("larder-poll".into()).spawn(move || {
            loop {
                let next = Instant::now() + interval;
                let cache = *seen.lock().unwrap_or_else(PoisonError::into_inner);
                if messages.send(Message::Reading(read(&mut processes, cache))).is_err() {
                    return;
                }
                loop {
                    match asked.recv_timeout(next.saturating_duration_since(Instant::now())) {
                        Ok(request) => {
                            let answer = processes.ask(request.cache.0, &request.content);
                            if messages.send(Message::Answer(request.title, answer)).is_err() {
                                return;
                            }
                        }
                        Err(RecvTimeoutError::Timeout) => break,
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            }
        })?;
        Ok(Self { requests, messages: received, watched })
    }

    pub(super) fn received(&self) -> impl Iterator<Item = Message> + '_ {
        self.messages.try_iter()
    }

    pub(super) fn send(&self, request: Request) {
        // The thread ends with this value only.
        let _sent = self.requests.send(request);
    }

    pub(super) fn watched(&self) -> Option<CacheId> {
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn watch(&self, cache: Option<CacheId>) {
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = cache;
    }
}

fn read(processes: &mut Processes, watched: Option<CacheId>) -> Reading {
    let at = Instant::now();
    let found = processes.read();
    let watched = watched.map(|cache| {
        let (pid, id) = cache;
        let mut ask = |request: Json| processes.ask(pid, &request);
        Watched {
            cache,
            hot: ask(json!({ "op": "hot", "cache": id, "limit": KEYS })),
            dear: ask(json!({ "op": "hot", "cache": id, "limit": KEYS, "by": "load_time" })),
            events: ask(json!({ "op": "events", "cache": id, "limit": EVENTS })),
        }
    });
    Reading { at, processes: found, watched }
}
