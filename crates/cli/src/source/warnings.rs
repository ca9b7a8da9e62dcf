//! Collects what the library logs while the command runs, so that commands can report it.

use std::fmt::{self, Write};
use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// The most warnings that are kept.
const KEPT_MAX: usize = 200;

static KEPT: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Begins to collect. A second call has no effect.
pub(crate) fn collect() {
    let _is_first = tracing::subscriber::set_global_default(Collector);
}

/// The warnings since the last call.
pub(crate) fn take() -> Vec<String> {
    KEPT.lock().map(|mut kept| std::mem::take(&mut *kept)).unwrap_or_default()
}

struct Collector;

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN && metadata.target() == "larder"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = EventText::default();
        event.record(&mut text);
        if let Ok(mut kept) = KEPT.lock()
            && kept.len() < KEPT_MAX
        {
            kept.push(text.whole());
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The text of an event: its message, then its fields.
#[derive(Default)]
struct EventText {
    message: String,
    fields: String,
}

impl EventText {
    fn whole(self) -> String {
        if self.fields.is_empty() { self.message } else { format!("{} ({})", self.message, self.fields) }
    }
}

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => {
                let gap = if self.fields.is_empty() { "" } else { ", " };
                write!(self.fields, "{gap}{name} {value:?}")
            }
        };
        // Writing to a string does not fail.
        written.unwrap_or_default();
    }
}
