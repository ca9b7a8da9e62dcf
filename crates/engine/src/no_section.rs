//! In place of sections that wait, where there are no tasks.

/// There is none.
#[derive(Clone)]
pub(crate) enum Holder {}

impl Holder {
    pub(crate) fn present() -> Option<Self> {
        None
    }

    pub(crate) fn is_live(&self) -> bool {
        match *self {}
    }

    pub(crate) async fn help(self) {
        match self {}
    }
}

/// Every thread may block.
pub(crate) async fn on_a_thread() {}

pub(crate) fn may_block() -> bool {
    true
}

pub(crate) async fn if_large(_: u64) {}
