//! Stand-in for [`uncancellable`](self) in builds without the `async` feature: there are no tasks,
//! and every thread may block.

/// The section that holds a lock. No value exists: threads need no help from a waiter.
#[derive(Clone)]
pub enum Holder {}

impl Holder {
    pub fn present() -> Option<Self> {
        None
    }

    pub fn is_live(&self) -> bool {
        match *self {}
    }

    pub async fn help(self) {
        match self {}
    }
}

/// Returns at once: every thread may block.
pub async fn on_a_thread() {}

pub fn may_block() -> bool {
    true
}

pub async fn if_large(_: u64) {}
