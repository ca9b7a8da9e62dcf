//! In place of sections that wait, where there are no tasks.

/// There is none.
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

/// Every thread may block.
pub async fn on_a_thread() {}

pub fn may_block() -> bool {
    true
}

pub async fn if_large(_: u64) {}
