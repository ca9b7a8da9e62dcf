//! Stand-in for [`uncancellable`](self) in builds without the `async` feature: there are no tasks,
//! and every thread may block.

/// The section that holds a lock. No value exists: threads need no help from a waiter.
#[derive(Clone)]
pub enum Holder {}

impl Holder {
    /// `None`: no section of a task holds anything.
    pub fn present() -> Option<Self> {
        None
    }

    /// Never called: there is no holder.
    pub fn is_live(&self) -> bool {
        match *self {}
    }

    /// Never called: there is no holder.
    pub async fn help(self) {
        match self {}
    }
}

/// Returns at once: every thread may block.
pub async fn on_a_thread() {}

/// Whether this thread may block: always.
pub fn may_block() -> bool {
    true
}

/// Returns at once: this thread may block.
pub async fn if_large(_: u64) {}

/// Whether so many bytes may be encoded or decoded on this thread: always.
pub fn is_in_place(_: u64) -> bool {
    true
}
