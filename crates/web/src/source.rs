//! Where the page has its statistics from.

use serde_json::{Value as Json, json};

/// A process, and the statistics of its caches.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct ObservedProcess {
    /// Its number.
    pub pid: u64,
    /// The name of its program.
    pub program: String,
    /// Its caches, each as the answer to `caches` has it.
    pub caches: Vec<Json>,
}

impl ObservedProcess {
    /// Creates it from its parts.
    pub fn new(pid: u64, program: impl Into<String>, caches: Vec<Json>) -> Self {
        Self { pid, program: program.into(), caches }
    }
}

/// The processes that the page shows.
///
/// # Behavior
/// - The methods may block: they are called on threads that may.
/// - `ask` answers as the protocol does, with a field `ok` or a field `error`; a process that is gone is an error of
///   the kind `unavailable`.
pub trait ProcessSource: Send + Sync + 'static {
    /// Reads the statistics of all processes.
    fn read(&self) -> Vec<ObservedProcess>;

    /// Asks one process.
    fn ask(&self, pid: u64, request: &Json) -> Json;
}

/// The process that serves the page.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThisProcess;

impl ProcessSource for ThisProcess {
    fn read(&self) -> Vec<ObservedProcess> {
        let hello = answered(&json!({ "op": "hello" }));
        let caches = answered(&json!({ "op": "caches" }));
        let caches = caches["ok"]["caches"].as_array().cloned().unwrap_or_default();
        let program = hello["ok"]["program"].as_str().unwrap_or("?");
        vec![ObservedProcess::new(u64::from(std::process::id()), program, caches)]
    }

    fn ask(&self, pid: u64, request: &Json) -> Json {
        if pid != u64::from(std::process::id()) {
            return json!({ "error": { "kind": "unavailable", "message": "there is no such process here" } });
        }
        answered(request)
    }
}

fn answered(request: &Json) -> Json {
    serde_json::from_str(&larder::observation::answer(&request.to_string())).unwrap_or(Json::Null)
}
