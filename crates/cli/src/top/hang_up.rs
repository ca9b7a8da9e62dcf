//! Ends the command when its terminal goes away.
//!
//! A terminal without its other side returns the end of file to each read at once. crossterm takes that for a read
//! of nothing and reads again, for ever: `event::poll` does not return, and a flag that a signal sets is not
//! looked at. Without a controlling terminal there is not even a signal. So a thread waits for the hang-up, which
//! costs nothing meanwhile, and ends the process.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use crate::exit::Exit;

/// How long the command may take to end by itself.
const GRACE: Duration = Duration::from_millis(500);

/// Sets `ended` when the terminal goes away, and ends the process if it still runs after [`GRACE`].
pub(super) fn watch(ended: &Arc<AtomicBool>) -> io::Result<()> {
    let ended = Arc::clone(ended);
    let watching = move || {
        if wait().is_ok() {
            ended.store(true, Ordering::Relaxed);
            // Nothing unparks this thread, and a shorter wait would do no harm.
            thread::park_timeout(GRACE);
            std::process::exit(Exit::Failed as i32);
        }
    };
    thread::Builder::new().name("larder-hang-up".to_owned()).spawn(watching).map(drop)
}

/// Waits until a terminal of the command has no other side.
fn wait() -> io::Result<()> {
    let (input, output) = (io::stdin(), io::stdout());
    let mut terminals = vec![PollFd::new(&output, PollFlags::empty())];
    if input.is_terminal() {
        terminals.push(PollFd::new(&input, PollFlags::empty()));
    }
    loop {
        match poll(&mut terminals, None) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(()),
        }
    }
}
