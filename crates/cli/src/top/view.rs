//! Draws `larder top`. Works from 60 columns and 16 lines, and without colors.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Clear, Paragraph, Row as TableRow, Table, Wrap};
use serde_json::Value as Json;

use super::app::{App, Focus, Overlay, Row};
use crate::printer::{bytes, escaped_line, moment};

/// The looks that the chart of the hit ratio shows.
const CHART: usize = 24;
/// The steps of the chart, from 0 to 1.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const HELP: [&str; 13] = [
    "↑ ↓ or k j   choose a cache or a key",
    "Tab          move between caches, hottest keys and dearest keys",
    "Enter or e   explain the chosen key: where it is, and why",
    "x            explain a key that you type",
    "s            sort by gets, hit ratio (worst first), load time, bytes, name",
    "/            show the caches whose name contains a text",
    "p            pause, and go on",
    "i            invalidate the chosen key",
    "t            invalidate the entries with a tag",
    "c            clear the chosen cache",
    "             these three ask first, and need `observe_control`",
    "q            quit",
    "Hottest: most look-ups. Dearest: most time in loaders. Both are sampled.",
];

pub(super) fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    let tiers = app.chosen_row().map_or(0, |row| row.cache["tiers"].as_array().map_or(0, Vec::len));
    let tier_lines = u16::try_from(tiers).unwrap_or(u16::MAX).saturating_add(2).min(7);
    let caches = (area.height / 4).clamp(4, 12);
    let events = (area.height / 5).clamp(3, 14);
    let parts = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(caches),
        Constraint::Length(tier_lines),
        Constraint::Min(4),
        Constraint::Length(events),
        Constraint::Length(1),
    ]);
    let [title, list, detail, keys, log, footer] = parts.areas(area);
    draw_title(frame, app, title);
    draw_caches(frame, app, list);
    match app.chosen_row() {
        Some(row) => draw_tiers(frame, app, row, detail),
        None => draw_hint(frame, app, detail.union(keys)),
    }
    if app.chosen_row().is_some() {
        let [hot, dear] =
            Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(keys);
        draw_keys(frame, app, Focus::Hot, hot);
        draw_keys(frame, app, Focus::Dear, dear);
        draw_events(frame, app, log);
    }
    let help = " q quit  ? help  s sort  / filter  Tab keys  e explain  i invalidate  c clear";
    frame.render_widget(Paragraph::new(help).style(plain().add_modifier(Modifier::DIM)), footer);
    draw_overlay(frame, app, area);
}

fn plain() -> Style {
    Style::new()
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// A style with a color, for terminals with colors; bold without them.
fn marked(app: &App, color: Color) -> Style {
    if app.has_colors { Style::new().fg(color) } else { bold() }
}

fn draw_title(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let count = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    let mut text = format!(
        " larder top   {} in {}   by {}",
        count(app.rows.len(), "cache", "caches"),
        count(app.processes, "process", "processes"),
        app.order.name()
    );
    if !app.filter.is_empty() {
        text += &format!("   filter {}", escaped_line(&app.filter));
    }
    if app.is_paused {
        text += "   PAUSED";
    }
    frame.render_widget(Paragraph::new(text).style(bold().add_modifier(Modifier::REVERSED)), area);
}

fn draw_hint(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let text = match (app.looks, app.filter.is_empty()) {
        (0, _) => "Reading …",
        (_, false) => "No cache has this name. / changes the filter.",
        (_, true) => {
            "No process is observed. Start one with LARDER_OBSERVE=true, or build its caches with `observe(true)`; \
             the feature `observe` must be on."
        }
    };
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
}

fn percent(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{:.1}", 100.0 * ratio))
}

/// A number in at most five characters.
fn short(number: f64) -> String {
    match number {
        n if n < 10.0 && n.fract() != 0.0 => format!("{n:.1}"),
        n if n < 9999.5 => format!("{n:.0}"),
        n if n < 999_500.0 => format!("{:.0}k", n / 1e3),
        n if n < 999_500_000.0 => format!("{:.1}M", n / 1e6),
        n => format!("{:.1}G", n / 1e9),
    }
}

fn micros(time: f64) -> String {
    match time {
        t if t <= 0.0 => "–".to_owned(),
        t if t < 1000.0 => format!("{t:.0} µs"),
        t if t < 1e6 => format!("{:.1} ms", t / 1e3),
        t => format!("{:.1} s", t / 1e6),
    }
}

/// The columns of the list of caches: the heading, the width, and whether narrow terminals have it.
const COLUMNS: [(&str, Constraint, bool); 10] = [
    ("CACHE", Constraint::Fill(2), true),
    ("KIND", Constraint::Length(6), false),
    ("HIT %", Constraint::Length(5), true),
    ("GETS/S", Constraint::Length(6), true),
    ("LOADS/S", Constraint::Length(7), true),
    ("LOAD", Constraint::Length(8), true),
    ("ENTRIES", Constraint::Length(7), true),
    ("BYTES", Constraint::Length(9), true),
    ("STATE", Constraint::Length(7), true),
    ("PROCESS", Constraint::Fill(1), false),
];
/// From this width on all columns are shown.
const WIDE: u16 = 100;

fn draw_caches(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let is_shown = |at: usize| area.width >= WIDE || COLUMNS[at].2;
    let chosen = app.rows.iter().position(|row| Some(row.id) == app.watched());
    let lines = usize::from(area.height.saturating_sub(1));
    let from = chosen.map_or(0, |at| (at + 1).saturating_sub(lines));
    let rows = app.rows.iter().enumerate().skip(from).take(lines).map(|(at, row)| {
        let style = if Some(at) == chosen { chosen_style(app, Focus::Caches) } else { plain() };
        let cells = cells(app, row).into_iter().enumerate().filter(|(at, _)| is_shown(*at));
        TableRow::new(cells.map(|(_, cell)| cell).collect::<Vec<_>>()).style(style)
    });
    let columns = COLUMNS.iter().enumerate().filter(|(at, _)| is_shown(*at));
    let (heading, widths): (Vec<_>, Vec<_>) = columns.map(|(_, column)| (column.0, column.1)).unzip();
    let table = Table::new(rows, widths).header(TableRow::new(heading).style(bold()));
    frame.render_widget(table, area);
}

fn cells(app: &App, row: &Row) -> [Cell<'static>; COLUMNS.len()] {
    let (state, is_trouble) = state(&row.cache);
    let style = if is_trouble { marked(app, Color::Red) } else { plain() };
    [
        Cell::from(row.name()),
        Cell::from(escaped_line(row.cache["kind"].as_str().unwrap_or("?"))),
        Cell::from(percent(row.rates.hit_ratio)),
        Cell::from(short(row.rates.gets)),
        Cell::from(short(row.rates.loads)),
        Cell::from(micros(row.rates.load_us)),
        Cell::from(short(row.entries() as f64)),
        Cell::from(bytes(row.bytes())),
        Cell::from(state).style(style),
        Cell::from(format!("{} {}", row.id.0, escaped_line(&row.program))),
    ]
}

/// The style of the chosen line of a list, which says whether the arrow keys move in it.
fn chosen_style(app: &App, list: Focus) -> Style {
    if app.focus == list { plain().add_modifier(Modifier::REVERSED) } else { bold() }
}

/// The state of a cache in one word, and whether it needs attention.
fn state(cache: &Json) -> (&'static str, bool) {
    let tiers = cache["tiers"].as_array().map_or(&[][..], Vec::as_slice);
    let is_any = |test: &dyn Fn(&Json) -> bool| tiers.iter().any(test);
    if is_any(&|tier| !tier["trouble"].is_null() || tier["is_healthy"] == false || is_open(tier)) {
        ("down", true)
    } else if is_any(&|tier| tier["has_missed_changes"] == true) {
        ("repairs", true)
    } else if cache["is_enabled"] == false {
        ("off", true)
    } else if cache["is_private"] == true {
        ("private", true)
    } else {
        ("fine", false)
    }
}

fn is_open(tier: &Json) -> bool {
    tier["open_circuits"].as_array().is_some_and(|open| !open.is_empty())
}

/// A chart of ratios: a bar for each look, a space for one without look-ups.
fn chart(ratios: &[Option<f64>]) -> String {
    let bar = |ratio: &Option<f64>| ratio.map_or(' ', |ratio| BARS[((ratio * 8.0) as usize).min(7)]);
    let drawn: String = ratios.iter().map(bar).collect();
    format!("{drawn:>CHART$}")
}

fn draw_tiers(frame: &mut Frame<'_>, app: &App, row: &Row, area: Rect) {
    let history = app.history(row.id);
    let ratios = |tier: Option<&str>| history.map_or(Vec::new(), |history| history.ratios(tier, CHART));
    let tiers = row.cache["tiers"].as_array().map_or(&[][..], Vec::as_slice);
    let mut lines = vec![Line::from(vec![
        Span::styled(format!("{:<7}", "all"), bold()),
        Span::raw(format!("{} {:>5} %  ", chart(&ratios(None)), percent(row.rates.hit_ratio))),
        Span::raw(loads(row)),
    ])];
    for tier in tiers {
        let name = tier["tier"].as_str().unwrap_or("?");
        let now = row.rates.tiers.iter().find(|(of, _)| of == name).and_then(|(_, ratio)| *ratio);
        // Trouble comes first: a narrow terminal cuts the end of the line.
        let (text, is_trouble) = circuit(tier);
        let style = if is_trouble { marked(app, Color::Red) } else { plain() };
        lines.push(Line::from(vec![
            Span::styled(format!("{:<7}", escaped_line(name)), bold()),
            Span::raw(format!("{} {:>5} %  ", chart(&ratios(Some(name))), percent(now))),
            Span::styled(text, style),
            Span::raw(budget(&row.cache, tier)),
        ]));
    }
    let title = format!(" {}: hit ratio by tier, budgets, circuits ", row.name());
    let block = Block::new().borders(Borders::TOP).title(title);
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn loads(row: &Row) -> String {
    let counts = &row.cache["counts"];
    let latency = &row.cache["load_latency"];
    let p99 = micros(latency["p99_us"].as_f64().unwrap_or(0.0));
    let mut text = format!("loads {}/s, p99 {p99}", short(row.rates.loads));
    for (field, label) in
        [("load_failures", "failed"), ("stale_serves", "stale"), ("unconfirmed", "unconfirmed")]
    {
        if let Some(count) = counts[field].as_u64().filter(|count| *count > 0) {
            text += &format!(", {count} {label}");
        }
    }
    text
}

/// What a tier holds, of what it may hold.
fn budget(cache: &Json, tier: &Json) -> String {
    let (entries, size) = (tier["entries"].as_u64().unwrap_or(0), tier["bytes"].as_u64().unwrap_or(0));
    let is_memory = tier["tier"] == "memory";
    let bytes_max = if is_memory { &cache["memory_bytes_max"] } else { &tier["bytes_max"] };
    let mut text = match (is_memory, cache["memory_entries_max"].as_u64(), bytes_max.as_u64()) {
        (true, Some(max), _) => format!("{} of {} entries", short(entries as f64), short(max as f64)),
        (_, _, Some(max)) => format!("{} of {}", bytes(size), bytes(max)),
        _ => format!("{} entries, {}", short(entries as f64), bytes(size)),
    };
    if let Some(evictions) = tier["evictions"].as_u64().filter(|count| *count > 0) {
        text += &format!(", {} evicted", short(evictions as f64));
    }
    let servers = tier["servers"].as_array().map_or(&[][..], Vec::as_slice);
    if !servers.is_empty() {
        text += &format!(", {} server{}", servers.len(), if servers.len() == 1 { "" } else { "s" });
    }
    if tier["is_shared"] == true {
        text += ", shared by nodes";
    }
    text
}

fn circuit(tier: &Json) -> (String, bool) {
    if let Some(why) = tier["trouble"].as_str() {
        return (format!("DOWN: {}  ", escaped_line(why)), true);
    }
    let open = tier["open_circuits"].as_array().map_or(&[][..], Vec::as_slice);
    let open: Vec<&str> = open.iter().filter_map(Json::as_str).collect();
    if !open.is_empty() {
        return (format!("OPEN: {}  ", open.join(", ")), true);
    }
    if tier["is_healthy"] == false {
        return ("DOWN  ".to_owned(), true);
    }
    let errors = tier["counts"]["errors"].as_u64().unwrap_or(0);
    if errors > 0 { (format!("{errors} errors  "), false) } else { (String::new(), false) }
}

fn draw_keys(frame: &mut Frame<'_>, app: &App, list: Focus, area: Rect) {
    let title = if list == Focus::Hot { " Hottest keys " } else { " Dearest keys " };
    let block = Block::new().borders(Borders::TOP).title(title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    if let Some(trouble) = app.trouble() {
        frame.render_widget(Paragraph::new(trouble).wrap(Wrap { trim: true }), inner);
        return;
    }
    let chosen = (app.focus == list).then(|| app.key_at());
    let height = usize::from(inner.height);
    let from = chosen.map_or(0, |at| (at + 1).saturating_sub(height));
    let lines = app.keys(list).iter().enumerate().skip(from).take(height).map(|(at, hot)| {
        let share = 100.0 * hot["share"].as_f64().unwrap_or(0.0);
        let text = escaped_line(hot["key"]["text"].as_str().unwrap_or("?"));
        let mean =
            hot["weight"].as_f64().unwrap_or(0.0) / 1e3 / hot["times"].as_f64().unwrap_or(1.0).max(1.0);
        let line = match list {
            Focus::Dear => format!("{share:>5.1} % {:>8}  {text}", micros(mean)),
            _ => format!("{share:>5.1} %  {text}"),
        };
        Line::styled(line, if Some(at) == chosen { chosen_style(app, list) } else { plain() })
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), inner);
}

fn draw_events(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let block = Block::new().borders(Borders::TOP).title(" Events ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let newest = app.events().iter().rev().take(usize::from(inner.height));
    let lines = newest.map(|event| {
        let name = event["event"].as_str().unwrap_or("?");
        let line = Line::from(event_text(event));
        if name.starts_with("tier ") && name != "tier up" {
            line.style(marked(app, Color::Red))
        } else {
            line
        }
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), inner);
}

/// An event in one line.
pub(super) fn event_text(event: &Json) -> String {
    let at = moment(larder_core::clock::Time::from_millis(event["at_ms"].as_u64().unwrap_or(0)));
    let time = at.get(11..19).unwrap_or_default();
    let mut text = format!("{time} {}", event["event"].as_str().unwrap_or("?"));
    if let Some(key) = event["key"]["text"].as_str() {
        text += &format!(" {}", escaped_line(key));
    }
    for field in ["from", "tier", "by", "cause", "count", "tag", "extent", "operations", "why"] {
        match &event[field] {
            Json::Null => {}
            Json::String(value) => text += &format!("  {field} {}", escaped_line(value)),
            value => text += &format!("  {field} {value}"),
        }
    }
    text
}

fn draw_overlay(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let (title, lines): (String, Vec<String>) = match &app.overlay {
        Overlay::None => return,
        Overlay::Help => ("Keys".to_owned(), HELP.map(str::to_owned).into()),
        Overlay::Answer(title, lines) => (title.clone(), lines.clone()),
        Overlay::Prompt(prompt, text) => {
            (prompt.label().to_owned(), vec![format!("{}▏", escaped_line(text))])
        }
        Overlay::Confirm(request) => {
            (request.title.clone(), vec!["Press y to do it, any other key to leave it.".to_owned()])
        }
    };
    let width = area.width.saturating_sub(4).min(90);
    let text_width = usize::from(width.saturating_sub(2)).max(1);
    let wrapped: usize = lines.iter().map(|line| line.chars().count().div_ceil(text_width).max(1)).sum();
    let height = u16::try_from(wrapped).unwrap_or(u16::MAX).saturating_add(2).min(area.height);
    let popup =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let block = Block::bordered().title(format!(" {title} "));
    let text: Vec<Line<'_>> = lines.into_iter().map(Line::from).collect();
    frame.render_widget(Clear, popup);
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }).block(block), popup);
}
