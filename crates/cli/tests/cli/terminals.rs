//! `larder top` in a pseudo terminal: what its screen shows, what its keys do, and how it leaves the terminal.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use vt100::{Color, Parser};

use crate::fixtures::plain;
use crate::observed::{EVIL, Traffic, traffic, until};

/// How a key with control codes is shown.
const EVIL_TEXT: &str = "\"evil\\u001b[2J\\u{202e}\"";

fn top(traffic: &Traffic) -> CommandBuilder {
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_larder"));
    command.args(["--dir", traffic.dir().to_str().unwrap(), "top", "--interval", "200ms"]);
    command.env("TERM", "xterm-256color");
    command.env_remove("NO_COLOR");
    command
}

/// The command in a terminal.
struct Terminal {
    screen: Arc<Mutex<Parser>>,
    keys: Box<dyn Write + Send>,
    process: Box<dyn Child + Send + Sync>,
    _master: Box<dyn MasterPty + Send>,
}

impl Terminal {
    fn open(traffic: &Traffic, (rows, cols): (u16, u16), variables: &[(&str, &str)]) -> Self {
        let size = PtySize { rows, cols, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = top(traffic);
        variables.iter().for_each(|(name, value)| command.env(name, value));
        let process = pair.slave.spawn_command(command).unwrap();
        let screen = Arc::new(Mutex::new(Parser::new(rows.try_into().unwrap(), cols.try_into().unwrap(), 0)));
        let (shown, mut output) = (Arc::clone(&screen), pair.master.try_clone_reader().unwrap());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read) = output.read(&mut bytes) {
                if read == 0 {
                    return;
                }
                shown.lock().unwrap().process(&bytes[..read]);
            }
        });
        let keys = pair.master.take_writer().unwrap();
        Self { screen, keys, process, _master: pair.master }
    }

    fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Waits until the screen shows all parts.
    #[track_caller]
    fn shows(&self, parts: &[&str]) -> String {
        let mut last = String::new();
        let found = |text: &String| parts.iter().all(|part| text.contains(part));
        let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until("the screen", || {
                last = self.text();
                found(&last).then(|| last.clone())
            })
        }));
        shown.unwrap_or_else(|_| panic!("{parts:?} is not shown:\n{}", self.text()))
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits for the end; returns the exit code. The terminal is as it was then.
    fn ends(&mut self) -> u32 {
        let code = until("the end", || self.process.try_wait().unwrap()).exit_code();
        until("the terminal is restored", || {
            let parser = self.screen.lock().unwrap();
            (!parser.screen().alternate_screen() && !parser.screen().hide_cursor()).then_some(())
        });
        code
    }

    fn is_colored(&self) -> bool {
        let parser = self.screen.lock().unwrap();
        let (rows, cols) = parser.screen().size();
        let mut cells = (0..rows.get()).flat_map(|row| (0..cols.get()).map(move |col| (row, col)));
        cells.any(|(row, col)| {
            let cell = parser.screen().cell(row, col).unwrap();
            cell.fgcolor() != Color::Default || cell.bgcolor() != Color::Default
        })
    }
}

#[test]
fn small_terminal_without_colors_shows_caches_tiers_keys_and_events() {
    let traffic = traffic();
    let mut terminal = Terminal::open(&traffic, (24, 80), &[("NO_COLOR", "1")]);
    let parts = [
        "larder top   2 caches in 1 process",
        "CACHE",
        "pages",
        "numbers",
        "100.0",
        "memory ",
        "disk ",
        "Hottest keys",
        "index",
        "Events",
        "q quit",
    ];
    let text = terminal.shows(&parts);
    assert_eq!(text.lines().count(), 24, "{text}");
    terminal.shows(&["pages: hit ratio", EVIL_TEXT]);
    assert!(!terminal.is_colored());
    // The first key of the hottest ones.
    terminal.press("\te");
    terminal.shows(&["Explain index", "home disk, copy in memory"]);
    terminal.press(" ");
    terminal.press("\u{1b}[Bi");
    terminal.shows(&[&format!("Invalidate {EVIL_TEXT}"), "Press y"]);
    terminal.press("y");
    terminal.shows(&["Done"]);
    assert_eq!(traffic.pages.get(EVIL), None);
    terminal.press(" /numb\r");
    terminal.shows(&["1 cache in", "filter numb"]);
    terminal.press("c");
    terminal.shows(&["Clear the cache numbers"]);
    terminal.press("y");
    terminal.shows(&["Refused", "observe_control"]);
    terminal.press(" q");
    assert_eq!(terminal.ends(), 0);
}

#[test]
fn large_terminal_has_more_columns_and_is_left_whole_by_a_signal() {
    let traffic = traffic();
    let mut terminal = Terminal::open(&traffic, (40, 120), &[]);
    let pid = std::process::id().to_string();
    terminal.shows(&["KIND", "PROCESS", "bcache", "ucache", &pid, "Dearest keys"]);
    terminal.press("?");
    terminal.shows(&["Tab          move between"]);
    let process = terminal.process.process_id().unwrap().to_string();
    let killed = std::process::Command::new("kill").args(["-TERM", &process]).status().unwrap();
    assert!(killed.success());
    terminal.ends();
}

#[test]
fn cache_that_is_closed_leaves_the_list() {
    let traffic = traffic();
    let mut terminal = Terminal::open(&traffic, (24, 80), &[]);
    terminal.shows(&["2 caches"]);
    traffic.numbers.close().unwrap();
    terminal.shows(&["1 cache in"]);
    traffic.pages.close().unwrap();
    terminal.shows(&["No process is observed"]);
    terminal.press("q");
    assert_eq!(terminal.ends(), 0);
}

/// The reader of keys read the end of file for ever, and the command took all of a processor until it was killed.
/// A terminal that is not the controlling one sends no signal.
#[test]
fn command_ends_when_its_terminal_goes_away() {
    let traffic = traffic();
    for is_controlling in [true, false] {
        let pair = native_pty_system().openpty(PtySize::default()).unwrap();
        let mut command = top(&traffic);
        command.set_controlling_tty(is_controlling);
        let mut process = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let (mut output, mut shown) = (pair.master.try_clone_reader().unwrap(), Vec::new());
        while !String::from_utf8_lossy(&shown).contains("Hottest") {
            let mut bytes = [0; 4096];
            let read = output.read(&mut bytes).unwrap();
            shown.extend_from_slice(&bytes[..read]);
        }
        drop((output, pair.master));
        let begun = Instant::now();
        while process.try_wait().unwrap().is_none() {
            if begun.elapsed() > Duration::from_secs(10) {
                process.kill().unwrap();
                panic!("it runs on, controlling: {is_controlling}");
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

#[test]
fn without_a_terminal_it_says_so() {
    plain(&["top"]).exits(2).complains(&["top", "terminal", "serve"]);
}
