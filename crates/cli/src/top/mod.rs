//! `larder top`: the observed caches in a terminal, while they run.
//!
//! A thread asks the processes, so that one which does not answer does not hold up the keys. What it read goes to
//! [`App`], which keeps the past and says what is shown; `view` draws it.

mod app;
mod hang_up;
mod history;
mod poller;
#[cfg(test)]
mod tests;
mod view;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event};

use crate::args::{Arguments, TopArguments};
use crate::exit::{Exit, Failure, Outcome};
use crate::live::Processes;
use crate::printer;
use app::App;
use poller::Poller;

/// How long a key may wait.
const TICK: Duration = Duration::from_millis(50);

pub(crate) fn run(arguments: &Arguments, top: &TopArguments) -> Outcome {
    if !printer::is_terminal() {
        let message =
            "top: the standard output is no terminal, allowed a terminal; `serve` has the same as JSON";
        return Err(Failure::new(Exit::Usage, message));
    }
    let interval = top.interval.clamp(Duration::from_millis(100), Duration::from_secs(60));
    let poller = Poller::start(Processes::chosen(arguments)?, interval)?;
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    hang_up::watch(&ended)?;
    let mut app = App::new(has_colors());
    // Restores the terminal when the command panics, too.
    let mut terminal = ratatui::try_init()?;
    let result = show(&mut terminal, &mut app, &poller, &ended);
    ratatui::try_restore()?;
    result?;
    Ok(Exit::Done)
}

/// Whether the user wants colors; <https://no-color.org>.
fn has_colors() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    app: &mut App,
    poller: &Poller,
    ended: &AtomicBool,
) -> io::Result<()> {
    let mut is_changed = true;
    while !app.is_over() && !ended.load(Ordering::Relaxed) {
        if is_changed {
            terminal.draw(|frame| view::draw(frame, app))?;
        }
        is_changed = false;
        for message in poller.received() {
            app.receive(message);
            is_changed = true;
        }
        if event::poll(TICK)? {
            is_changed = true;
            if let Event::Key(key) = event::read()?
                && let Some(request) = app.press(key)
            {
                poller.send(request);
            }
        }
        if app.watched() != poller.watched() {
            poller.watch(app.watched());
        }
    }
    Ok(())
}
