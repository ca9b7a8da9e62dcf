//! What `larder top` shows, and what its keys do.

use std::collections::HashMap;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::{Value as Json, json};

use super::history::{History, Rates};
use super::poller::{CacheId, Message, Reading, Request, Watched};
use crate::printer::escaped_line;

/// The order of the caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Gets,
    HitRatio,
    Loads,
    Bytes,
    Name,
}

impl Order {
    const ALL: [Self; 5] = [Self::Gets, Self::HitRatio, Self::Loads, Self::Bytes, Self::Name];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gets => "gets",
            Self::HitRatio => "hit ratio",
            Self::Loads => "load time",
            Self::Bytes => "bytes",
            Self::Name => "name",
        }
    }

    fn next(self) -> Self {
        let at = Self::ALL.iter().position(|order| *order == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }
}

/// The list that the arrow keys move in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Focus {
    Caches,
    Hot,
    Dear,
}

/// What covers the screen, or takes the keys.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Overlay {
    None,
    Help,
    /// The answer to a request: its title and its lines.
    Answer(String, Vec<String>),
    /// A line that the user types.
    Prompt(Prompt, String),
    /// A change that waits for `y`.
    Confirm(Request),
}

/// What a typed line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prompt {
    Filter,
    Explain,
    Tag,
}

impl Prompt {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Filter => "Caches whose name contains",
            Self::Explain => "Key to explain",
            Self::Tag => "Tag to invalidate",
        }
    }
}

/// A cache in the list.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: CacheId,
    pub(super) program: String,
    pub(super) cache: Json,
    pub(super) rates: Rates,
}

impl Row {
    pub(super) fn name(&self) -> String {
        escaped_line(self.cache["name"].as_str().unwrap_or("?"))
    }

    pub(super) fn bytes(&self) -> u64 {
        sum(&self.cache, "bytes")
    }

    pub(super) fn entries(&self) -> u64 {
        sum(&self.cache, "entries")
    }
}

fn sum(cache: &Json, field: &str) -> u64 {
    let tiers = cache["tiers"].as_array().map_or(&[][..], Vec::as_slice);
    tiers.iter().filter_map(|tier| tier[field].as_u64()).sum()
}

#[derive(Debug)]
pub(super) struct App {
    pub(super) has_colors: bool,
    pub(super) order: Order,
    pub(super) filter: String,
    pub(super) focus: Focus,
    pub(super) overlay: Overlay,
    pub(super) is_paused: bool,
    pub(super) rows: Vec<Row>,
    pub(super) processes: usize,
    /// How often all processes were read.
    pub(super) looks: u32,
    has_moved: bool,
    histories: HashMap<CacheId, History>,
    details: Option<Watched>,
    chosen: Option<CacheId>,
    key: usize,
    is_over: bool,
}

impl App {
    pub(super) fn new(has_colors: bool) -> Self {
        Self {
            has_colors,
            order: Order::Gets,
            filter: String::new(),
            focus: Focus::Caches,
            overlay: Overlay::None,
            is_paused: false,
            rows: Vec::new(),
            processes: 0,
            looks: 0,
            has_moved: false,
            histories: HashMap::new(),
            details: None,
            chosen: None,
            key: 0,
            is_over: false,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The cache whose keys and events are shown.
    pub(super) fn watched(&self) -> Option<CacheId> {
        self.chosen
    }

    pub(super) fn chosen_row(&self) -> Option<&Row> {
        self.rows.iter().find(|row| Some(row.id) == self.chosen)
    }

    pub(super) fn history(&self, id: CacheId) -> Option<&History> {
        self.histories.get(&id)
    }

    /// The details of the chosen cache, if they are there already.
    fn details(&self) -> Option<&Watched> {
        self.details.as_ref().filter(|details| Some(details.cache) == self.chosen)
    }

    pub(super) fn keys(&self, focus: Focus) -> &[Json] {
        let answer =
            self.details().map(|details| if focus == Focus::Dear { &details.dear } else { &details.hot });
        answer.and_then(|answer| answer["ok"]["keys"].as_array()).map_or(&[], Vec::as_slice)
    }

    /// Why there are no keys and events.
    pub(super) fn trouble(&self) -> Option<String> {
        let message = self.details()?.hot["error"]["message"].as_str()?;
        Some(escaped_line(message))
    }

    pub(super) fn events(&self) -> &[Json] {
        let events = self.details().and_then(|details| details.events["ok"]["events"].as_array());
        events.map_or(&[], Vec::as_slice)
    }

    /// The position of the chosen key in its list.
    pub(super) fn key_at(&self) -> usize {
        self.key.min(self.keys(self.focus).len().saturating_sub(1))
    }

    pub(super) fn receive(&mut self, message: Message) {
        match message {
            Message::Reading(reading) => self.read(reading),
            Message::Answer(title, answer) => self.overlay = Overlay::Answer(title, lines(&answer)),
        }
    }

    fn read(&mut self, reading: Reading) {
        let Reading { at, processes, watched } = reading;
        let mut rows = Vec::new();
        for process in &processes {
            for cache in &process.caches {
                let id = (process.pid, cache["id"].as_u64().unwrap_or(0));
                let history = self.histories.entry(id).or_default();
                history.add(at, cache);
                let (program, cache) = (process.program.clone(), cache.clone());
                rows.push(Row { id, program, cache, rates: history.now() });
            }
        }
        self.histories.retain(|id, _| rows.iter().any(|row| row.id == *id));
        if self.is_paused {
            return;
        }
        self.looks = self.looks.saturating_add(1);
        self.processes = processes.len();
        self.rows = rows;
        self.details = watched;
        self.arrange();
    }

    /// Filters and sorts the rows, and keeps one of them chosen.
    fn arrange(&mut self) {
        let filter = self.filter.to_lowercase();
        self.rows.retain(|row| row.name().to_lowercase().contains(&filter));
        let order = self.order;
        self.rows.sort_by(|one, other| {
            let by_name = || one.name().cmp(&other.name()).then(one.id.cmp(&other.id));
            let descending = |a: f64, b: f64| b.total_cmp(&a);
            match order {
                Order::Gets => descending(one.rates.gets, other.rates.gets),
                // The worst first.
                Order::HitRatio => {
                    let ratio = |row: &Row| row.rates.hit_ratio.unwrap_or(2.0);
                    ratio(one).total_cmp(&ratio(other))
                }
                Order::Loads => {
                    let time = |row: &Row| row.rates.loads * row.rates.load_us;
                    descending(time(one), time(other))
                }
                Order::Bytes => other.bytes().cmp(&one.bytes()),
                Order::Name => std::cmp::Ordering::Equal,
            }
            .then_with(by_name)
        });
        // The first look has no rates to sort by.
        let is_settling = self.looks <= 2 && !self.has_moved;
        if is_settling || self.chosen_row().is_none() {
            self.chosen = self.rows.first().map(|row| row.id);
        }
    }

    /// Does what a key stands for. Returns the requests to send.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Request> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            self.is_over = true;
            return None;
        }
        match std::mem::replace(&mut self.overlay, Overlay::None) {
            Overlay::None => self.command(key.code),
            Overlay::Help | Overlay::Answer(..) => None,
            Overlay::Prompt(prompt, text) => self.typed(prompt, text, key.code),
            Overlay::Confirm(request) => (key.code == KeyCode::Char('y')).then_some(request),
        }
    }

    fn typed(&mut self, prompt: Prompt, mut text: String, code: KeyCode) -> Option<Request> {
        match code {
            KeyCode::Esc => return None,
            KeyCode::Enter => return self.entered(prompt, text),
            KeyCode::Backspace => _ = text.pop(),
            KeyCode::Char(c) if text.len() < 1000 => text.push(c),
            _ => {}
        }
        self.overlay = Overlay::Prompt(prompt, text);
        None
    }

    fn entered(&mut self, prompt: Prompt, text: String) -> Option<Request> {
        match prompt {
            Prompt::Filter => {
                self.filter = text;
                self.arrange();
                None
            }
            Prompt::Explain => {
                let title = format!("Explain {}", escaped_line(&text));
                self.request(title, json!({ "op": "explain", "key": text }))
            }
            Prompt::Tag => {
                let title = format!("Invalidate the tag {}", escaped_line(&text));
                self.confirmed(title, json!({ "op": "invalidate", "tag": text }))
            }
        }
    }

    fn command(&mut self, code: KeyCode) -> Option<Request> {
        match code {
            KeyCode::Char('q') | KeyCode::Esc => self.is_over = true,
            KeyCode::Char('?' | 'h') => self.overlay = Overlay::Help,
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('s') => {
                self.order = self.order.next();
                self.arrange();
            }
            KeyCode::Char('/') => self.overlay = Overlay::Prompt(Prompt::Filter, self.filter.clone()),
            KeyCode::Char('x') => self.overlay = Overlay::Prompt(Prompt::Explain, String::new()),
            KeyCode::Char('t') => self.overlay = Overlay::Prompt(Prompt::Tag, String::new()),
            KeyCode::Tab => {
                self.key = 0;
                self.focus = match self.focus {
                    Focus::Caches => Focus::Hot,
                    Focus::Hot => Focus::Dear,
                    Focus::Dear => Focus::Caches,
                };
            }
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Enter | KeyCode::Char('e') => return self.of_key("explain", "Explain"),
            KeyCode::Char('i') => return self.of_key("invalidate", "Invalidate"),
            KeyCode::Char('c') => {
                let name = self.chosen_row()?.name();
                return self.confirmed(format!("Clear the cache {name}"), json!({ "op": "clear" }));
            }
            _ => {}
        }
        None
    }

    fn step(&mut self, by: isize) {
        self.has_moved = true;
        let moved = |at: usize, len: usize| at.saturating_add_signed(by).min(len.saturating_sub(1));
        if self.focus == Focus::Caches {
            let at = self.rows.iter().position(|row| Some(row.id) == self.chosen).unwrap_or(0);
            self.chosen = self.rows.get(moved(at, self.rows.len())).map(|row| row.id);
        } else {
            self.key = moved(self.key_at(), self.keys(self.focus).len());
        }
    }

    /// A request about the chosen key. Asks for a list first if none is chosen.
    fn of_key(&mut self, op: &str, label: &str) -> Option<Request> {
        if self.focus == Focus::Caches {
            self.focus = Focus::Hot;
            return None;
        }
        let key = self.keys(self.focus).get(self.key_at())?["key"].clone();
        let title = format!("{label} {}", escaped_line(key["text"].as_str().unwrap_or("?")));
        let content = match key["hex"].as_str() {
            Some(hex) => json!({ "op": op, "key_hex": hex }),
            None => json!({ "op": op, "key": key["text"] }),
        };
        if op == "explain" { self.request(title, content) } else { self.confirmed(title, content) }
    }

    fn request(&self, title: String, mut content: Json) -> Option<Request> {
        let cache = self.chosen?;
        content["cache"] = json!(cache.1);
        Some(Request { cache, title, content })
    }

    fn confirmed(&mut self, title: String, content: Json) -> Option<Request> {
        if let Some(request) = self.request(title, content) {
            self.overlay = Overlay::Confirm(request);
        }
        None
    }
}

/// An answer as lines of text.
fn lines(answer: &Json) -> Vec<String> {
    if let Some(message) = answer["error"]["message"].as_str() {
        return vec![format!("Refused: {}", escaped_line(message))];
    }
    let content = &answer["ok"];
    match content["text"].as_str() {
        Some(text) => text.split("; ").map(escaped_line).collect(),
        None => vec![escaped_line(&format!("Done: {content}"))],
    }
}
