//! A checker of histories: can every read be explained?
//!
//! Each value names its key, its writer and its number ([`Stamp`]). Threads and tasks
//! record their calls to a cache and its answers ([`Recorder`]), in one order.
//! [`History::check`] then looks for reads that no order of the calls explains: a value
//! of another key, a value never written, a value replaced or removed before the read
//! began, or parts of values. A cache may drop entries; where it promised not to, that is
//! a loss ([`Contract`]).
//!
//! The checker has no false positives, but it can miss a fault that overlapping calls
//! could excuse. So few keys and many calls find more than many keys and few calls.
//!
//! The type of a cache's values may change between two lives of a directory: each recorder says which
//! schema it uses ([`Recorder::with_schema`]), and no read may find a value of another one.
//!
//! A process that is killed writes its history line by line ([`Recorder::to_lines`]) to a
//! [`Transcript`] in another process.
//!
//! ```
//! use std::collections::HashMap;
//! use larder_testkit::history::{Act, Contract, History};
//!
//! let mut cache = HashMap::new();
//! let history = History::new();
//! let mut recorder = history.recorder();
//!
//! let stamp = recorder.stamp(7);
//! let call = recorder.begin(Act::Insert(stamp));
//! cache.insert(7, stamp.text(100));
//! recorder.end_done::<(), ()>(call, &Ok(()));
//!
//! let call = recorder.begin(Act::Get(7));
//! let found = cache.get(&7);
//! recorder.end_with(call, found.map(|text| text.as_bytes()));
//!
//! drop(recorder);
//! history.check(&Contract::CACHE).assert_sound("one writer, one read");
//! ```

mod call;
mod check;
mod recorder;
mod report;
mod stamp;
#[cfg(test)]
mod tests;
mod timeline;
mod transcript;

pub use call::{Act, Answer, Call, NEVER, Ran};
pub use check::{Contract, Keeps};
pub use recorder::{Begun, Clock, History, LoaderMark, Recorder};
pub use report::{Offence, Report, Verdict};
pub use stamp::{Seen, Stamp};
pub use transcript::Transcript;
