//! What the screen shows of states that a test can hardly bring about, and at any size.

use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent};
use serde_json::{Value as Json, json};

use super::app::App;
use super::poller::{Message, Reading, Watched};
use super::view;
use crate::live::ProcessReading;

fn tier(name: &str, hits: u64, changes: &Json) -> Json {
    let mut tier = json!({
        "tier": name, "counts": { "hits": hits, "errors": 0 }, "entries": 40, "bytes": 4096, "bytes_max": 1 << 20,
        "evictions": 3, "servers": [], "trouble": null, "is_healthy": true, "open_circuits": [],
        "has_missed_changes": false,
    });
    for (field, value) in changes.as_object().into_iter().flatten() {
        tier[field] = value.clone();
    }
    tier
}

fn cache(id: u64, name: &str, misses: u64, tiers: &[Json]) -> Json {
    json!({
        "id": id, "name": name, "kind": "ucache", "is_enabled": true, "is_private": false,
        "counts": { "misses": misses, "load_failures": 2, "stale_serves": 0, "unconfirmed": 0 },
        "load_latency": { "count": misses, "sum_us": misses * 2000, "p99_us": 2500.0 },
        "memory_entries_max": 1000, "memory_bytes_max": null, "tiers": tiers,
    })
}

fn reading(at: Instant, caches: Vec<Json>) -> Message {
    let hot = |text: &str| {
        json!({ "ok": { "total": 10, "keys": [
            { "key": { "text": text }, "weight": 9_000_000, "times": 3, "share": 0.9, "error": 0 },
        ] } })
    };
    let event = json!({ "number": 1, "at_ms": 1_700_000_000_000_u64, "event": "tier down", "tier": "redis", "operations": "reads" });
    let watched = Watched {
        cache: (7, 1),
        hot: hot("a\u{1b}[2Jb"),
        dear: hot("slow"),
        events: json!({ "ok": { "last": 1, "events": [event] } }),
    };
    let process = ProcessReading { pid: 7, program: "shop".to_owned(), caches };
    Message::Reading(Reading { at, processes: vec![process], watched: Some(watched) })
}

fn app() -> App {
    let (mut app, start) = (App::new(false), Instant::now());
    let down = json!({ "trouble": "cannot connect: refused", "is_healthy": false, "is_shared": true });
    let open = json!({ "open_circuits": ["writes"] });
    for (seconds, hits) in [(0, 0), (1, 75), (2, 150)] {
        let one = [tier("memory", hits, &json!({})), tier("disk", hits / 15, &open), tier("redis", 0, &down)];
        let two = [tier("memory", 10 * hits, &json!({}))];
        let caches = vec![cache(1, "baskets", hits / 5, &one), cache(2, "prices", 0, &two)];
        app.receive(reading(start + Duration::from_secs(seconds), caches));
    }
    press(&mut app, KeyCode::Down);
    app
}

fn screen(app: &App, (width, height): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, app)).unwrap();
    let buffer = terminal.backend().buffer();
    let cells: Vec<&str> = buffer.content().iter().map(|cell| cell.symbol()).collect();
    cells.chunks(usize::from(width)).map(|line| line.concat() + "\n").collect()
}

fn press(app: &mut App, code: KeyCode) -> Option<Json> {
    app.press(KeyEvent::from(code)).map(|request| request.content)
}

#[test]
fn troubles_of_tiers_rates_and_keys_are_shown() {
    let mut app = app();
    // The cache with more look-ups is first; the other one is chosen already.
    let text = screen(&app, (80, 24));
    let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part:?} is missing in\n{text}"));
    assert!(at("prices") < at("baskets"));
    for part in [
        "750",
        "84.2",
        "down",
        "fine",
        "DOWN: cannot connect: refused",
        "OPEN: writes",
        "of 1000 entries",
        "2 failed",
        "a\\u{1b}[2Jb",
        "slow",
        "3.0 ms",
        "tier down  tier redis  operations reads",
        "22:13:20",
    ] {
        at(part);
    }
    assert!(screen(&app, (120, 24)).contains("3 evicted, shared by nodes"));
    press(&mut app, KeyCode::Char('s'));
    let text = screen(&app, (80, 24));
    assert!(text.find("baskets") < text.find("prices"), "the worst hit ratio first:\n{text}");
}

#[test]
fn any_size_can_be_drawn_with_any_overlay() {
    let mut app = app();
    for key in ['?', 'x', '/', 'c'] {
        press(&mut app, KeyCode::Char(key));
        for size in [(1, 1), (10, 3), (60, 16), (80, 24), (200, 60), (300, 2)] {
            screen(&app, size);
        }
        press(&mut app, KeyCode::Esc);
    }
}

#[test]
fn change_is_sent_after_it_was_confirmed() {
    let mut app = app();
    app.press(KeyEvent::from(KeyCode::Char('k')));
    assert_eq!(press(&mut app, KeyCode::Char('c')), None);
    assert!(screen(&app, (80, 24)).contains("Clear the cache prices"));
    assert_eq!(press(&mut app, KeyCode::Char('n')), None);
    press(&mut app, KeyCode::Char('c'));
    assert_eq!(press(&mut app, KeyCode::Char('y')), Some(json!({ "op": "clear", "cache": 2 })));

    press(&mut app, KeyCode::Char('x'));
    "a7".chars().for_each(|c| _ = press(&mut app, KeyCode::Char(c)));
    press(&mut app, KeyCode::Backspace);
    let explain = json!({ "op": "explain", "key": "a", "cache": 2 });
    assert_eq!(press(&mut app, KeyCode::Enter), Some(explain));
    app.receive(Message::Answer(
        "Explain a".to_owned(),
        json!({ "ok": { "text": "home disk; by the rule" } }),
    ));
    assert!(screen(&app, (80, 24)).contains("home disk"));
}
