"use strict";
// Text from keys and values reaches the page by `textContent` alone, with control characters as escapes.
const at = (id) => document.getElementById(id);
const url = (path) => new URL(path, document.baseURI);
const HISTORY = 120;
const state = { look: null, chosen: null, order: "gets", down: true, paused: false, past: new Map(), stream: null };

const CONTROL = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
const safe = (text) => String(text).replace(CONTROL, (c) => "\\u{" + c.codePointAt(0).toString(16) + "}");
const percent = (ratio) => (ratio === null ? "–" : (100 * ratio).toFixed(1) + " %");
const number = (n) => n.toLocaleString("en", { maximumFractionDigits: n < 10 ? 1 : 0 });
const bytes = (n) => {
  let unit = "B";
  for (const next of ["KiB", "MiB", "GiB", "TiB"]) { if (n < 1000) break; n /= 1024; unit = next; }
  return (unit === "B" ? n : n.toPrecision(3)) + " " + unit;
};
const time = (us) => (us <= 0 ? "–" : us < 1000 ? us.toFixed(0) + " µs" : us < 1e6 ? (us / 1e3).toFixed(1) + " ms" : (us / 1e6).toFixed(1) + " s");

/** Keeps the rows of a table in place, so that the keyboard does not lose its button. */
function sync(parent, items, keyOf, create, update) {
  const former = new Map([...parent.children].map((row) => [row.dataset.key, row]));
  items.forEach((item, n) => {
    const key = keyOf(item);
    let row = former.get(key);
    if (row) former.delete(key);
    else { row = create(item); row.dataset.key = key; }
    update(row, item);
    if (parent.children[n] !== row) parent.insertBefore(row, parent.children[n] || null);
  });
  former.forEach((row) => row.remove());
}

function cells(row, values) {
  values.forEach(([text, name], n) => {
    const cell = row.children[n] || row.appendChild(document.createElement(n === 0 && name === "head" ? "th" : "td"));
    if (n === 0 && name === "head") cell.scope = "row";
    else cell.className = name || "";
    if (cell.textContent !== text) cell.textContent = text;
  });
}

function button(text, label, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  if (label) made.setAttribute("aria-label", label);
  made.addEventListener("click", act);
  return made;
}

function states(cache) {
  const tiers = cache.tiers;
  if (tiers.some((t) => t.trouble || !t.is_healthy || t.open_circuits.length)) return ["down", true];
  if (tiers.some((t) => t.has_missed_changes)) return ["repairs", true];
  if (!cache.is_enabled) return ["off", true];
  return cache.is_private ? ["private", true] : ["fine", false];
}

/** What happened to a cache since the look before. */
function rates(id, cache, now) {
  const counts = { misses: cache.counts.misses, loads: cache.load_latency.count, us: cache.load_latency.sum_us };
  counts.hits = Object.fromEntries(cache.tiers.map((tier) => [tier.tier, tier.counts.hits]));
  const past = state.past.get(id) || { rates: [] };
  if (past.counts && now > past.now) {
    const seconds = (now - past.now) / 1000, before = past.counts;
    const since = (a, b) => Math.max(0, a - (b || 0));
    const misses = since(counts.misses, before.misses), loads = since(counts.loads, before.loads);
    const hits = Object.entries(counts.hits).map(([tier, count]) => [tier, since(count, before.hits[tier])]);
    const found = hits.reduce((sum, [, count]) => sum + count, 0), gets = found + misses;
    const share = (count) => (gets ? count / gets : null);
    past.rates.push({
      gets: gets / seconds, loads: loads / seconds, load_us: loads ? since(counts.us, before.us) / loads : 0,
      ratio: share(found), tiers: Object.fromEntries(hits.map(([tier, count]) => [tier, share(count)])),
    });
    if (past.rates.length > HISTORY) past.rates.shift();
  }
  past.counts = counts; past.now = now;
  state.past.set(id, past);
  return past.rates[past.rates.length - 1] || { gets: 0, loads: 0, load_us: 0, ratio: null, tiers: {} };
}

const sum = (cache, field) => cache.tiers.reduce((total, tier) => total + tier[field], 0);

function receive(look) {
  const now = performance.now();
  look.rows = look.processes.flatMap((process) => process.caches.map((cache) => {
    const id = process.pid + "/" + cache.id;
    return { id, pid: process.pid, program: process.program, cache, rates: rates(id, cache, now) };
  }));
  for (const id of state.past.keys()) if (!look.rows.some((row) => row.id === id)) state.past.delete(id);
  if (state.paused) return;
  state.look = look;
  draw();
}

function value(row) {
  switch (state.order) {
    case "name": return row.cache.name;
    case "entries": case "bytes": return sum(row.cache, state.order);
    default: return row.rates[state.order] ?? -1;
  }
}

function draw() {
  const look = state.look;
  if (!look) return;
  const filter = at("filter").value.toLowerCase();
  const rows = look.rows.filter((row) => row.cache.name.toLowerCase().includes(filter));
  rows.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    const compared = x < y ? -1 : x > y ? 1 : 0;
    return (state.down ? -compared : compared) || (a.id < b.id ? -1 : 1);
  });
  const count = (n, one, many) => `${n} ${n === 1 ? one : many}`;
  at("summary").textContent = `${count(look.rows.length, "cache", "caches")} in ${count(look.processes.length, "process", "processes")}`;
  at("none").hidden = look.rows.length > 0;
  sync(at("caches").tBodies[0], rows, (row) => row.id, (item) => {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.append(button(safe(item.cache.name), "", () => choose(item.id)));
    row.append(head);
    return row;
  }, (row, item) => {
    const [name, bad] = states(item.cache);
    const values = [
      [item.program + " " + item.pid], [name, bad ? "bad" : ""], [percent(item.rates.ratio), "n ratio"], [number(item.rates.gets), "n"],
      [number(item.rates.loads), "n"], [time(item.rates.load_us), "n"], [number(sum(item.cache, "entries")), "n"], [bytes(sum(item.cache, "bytes")), "n"],
    ];
    values.forEach(([text, kind], n) => {
      const cell = row.children[n + 1] || row.appendChild(document.createElement("td"));
      cell.className = kind || "";
      if (cell.textContent !== safe(text)) cell.textContent = safe(text);
    });
    row.classList.toggle("chosen", item.id === state.chosen);
    row.children[0].firstChild.setAttribute("aria-pressed", String(item.id === state.chosen));
  });
  for (const head of document.querySelectorAll("th[data-order]")) {
    if (head.dataset.order === state.order) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  if (!state.chosen && rows.length) choose(rows[0].id);
  else drawDetail();
}

function chosen() {
  return state.look && state.look.rows.find((row) => row.id === state.chosen);
}

function drawDetail() {
  const row = chosen();
  at("detail").hidden = !row;
  if (!row) return;
  const { cache } = row;
  at("detail-title").textContent = `${safe(cache.name)}, ${cache.kind} of ${safe(row.program)}`;
  drawChart(row);
  sync(at("tiers").tBodies[0], cache.tiers, (tier) => tier.tier, () => document.createElement("tr"), (line, tier) => {
    const open = tier.open_circuits.join(", ");
    const why = tier.trouble ? "down: " + tier.trouble : open ? "open: " + open : tier.is_healthy ? "fine" : "down";
    const memory = tier.tier === "memory";
    const entries = memory && cache.memory_entries_max !== null;
    const most = memory ? cache.memory_bytes_max : tier.bytes_max;
    const holds = entries ? `${number(tier.entries)} of ${number(cache.memory_entries_max)} entries`
      : `${number(tier.entries)} entries, ${bytes(tier.bytes)}${most === null ? "" : " of " + bytes(most)}${tier.is_shared ? ", shared by nodes" : ""}`;
    cells(line, [
      [safe(tier.tier), "head"], [safe(why), why === "fine" ? "" : "bad"], [percent(row.rates.tiers[tier.tier] ?? null), "n"], [number(tier.counts.hits), "n"],
      [holds], [number(tier.evictions), "n"], [number(tier.counts.errors), "n"], [time(tier.latency.get.p99_us), "n"], [time(tier.latency.put.p99_us), "n"],
    ]);
  });
  const watched = state.look.watched;
  const mine = watched && watched.pid === row.pid && watched.cache === cache.id ? watched : null;
  drawKeys(at("hot"), mine && mine.hot.ok);
  drawKeys(at("dear"), mine && mine.dear.ok);
  at("trouble").textContent = mine && mine.hot.error ? safe(mine.hot.error.message) : "";
  at("control").hidden = !(state.look.may_change && cache.may_control);
  drawEvents((mine && mine.events.ok && mine.events.ok.events) || []);
}

function drawChart(row) {
  const past = (state.past.get(row.id) || { rates: [] }).rates;
  const lines = [["all", (rate) => rate.ratio], ...row.cache.tiers.map((tier) => [tier.tier, (rate) => rate.tiers[tier.tier] ?? null])];
  sync(at("chart"), lines, ([name]) => name, () => document.createElementNS("http://www.w3.org/2000/svg", "polyline"), (line, [name, of]) => {
    const points = past.map((rate, n) => [n, of(rate)]).filter(([, ratio]) => ratio !== null);
    line.setAttribute("class", "c" + Math.min(4, lines.findIndex(([other]) => other === name)));
    line.setAttribute("points", points.map(([n, ratio]) => `${(600 * n) / (HISTORY - 1)},${(116 - 112 * ratio).toFixed(1)}`).join(" "));
  });
  const now = past[past.length - 1];
  const shares = now ? lines.map(([name, of]) => `${safe(name)} ${percent(of(now))}`).join(", ") : "no look-ups yet";
  at("chart-text").textContent = `Hit ratio over the last ${past.length} looks: ${shares}. Lines in this order: solid, dashed, dotted, dash-dotted.`;
}

function drawKeys(table, answer) {
  sync(table.tBodies[0], answer ? answer.keys : [], (hot) => hot.key.hex || "text " + hot.key.text, (hot) => {
    const row = document.createElement("tr");
    const text = safe(hot.key.text);
    cells(row, [["", "n"], [text, "key"], [""]]);
    row.children[2].append(button("explain", "explain " + text, () => ask({ op: "explain", ...name(hot.key) })));
    row.children[2].append(button("invalidate", "invalidate " + text, () => ask({ op: "invalidate", ...name(hot.key) })));
    return row;
  }, (row, hot) => {
    row.children[0].textContent = percent(hot.share);
    row.children[2].lastChild.hidden = at("control").hidden;
  });
}

const name = (key) => (key.hex ? { key_hex: key.hex } : { key: key.text });

function drawEvents(events) {
  sync(at("events"), [...events].reverse(), (event) => String(event.number), () => document.createElement("li"), (line, event) => {
    const rest = Object.entries(event).filter(([field]) => !["number", "at_ms", "event", "key"].includes(field));
    const when = new Date(event.at_ms).toISOString().slice(11, 19);
    const text = [when, event.event, event.key ? event.key.text : "", ...rest.map(([field, of]) => `${field} ${of}`)].join(" ");
    line.value = event.number;
    if (line.textContent !== safe(text)) line.textContent = safe(text);
    line.className = event.event.startsWith("tier ") && event.event !== "tier up" ? "bad" : "";
  });
}

function choose(id) {
  state.chosen = id;
  connect();
  draw();
}

async function ask(request) {
  const row = chosen();
  if (!row) return;
  const headers = { "Content-Type": "application/json" };
  const token = at("token").value;
  if (token) headers.Authorization = "Bearer " + token;
  const body = JSON.stringify({ pid: row.pid, request: { ...request, cache: row.cache.id } });
  let said;
  try {
    const answer = await (await fetch(url("api/ask"), { method: "POST", headers, body })).json();
    said = answer.error ? "Refused: " + answer.error.message : (answer.ok.text || "Done: " + JSON.stringify(answer.ok));
  } catch (error) {
    said = "Failed: " + error.message;
  }
  at("answer").textContent = safe(said);
}

function connect() {
  if (state.stream) state.stream.close();
  const [pid, cache] = (state.chosen || "").split("/");
  state.stream = new EventSource(url("api/stream" + (pid ? `?pid=${pid}&cache=${cache}` : "")));
  state.stream.addEventListener("look", (event) => receive(JSON.parse(event.data)));
  state.stream.onerror = () => { at("summary").textContent = "The server does not answer. Trying again …"; };
}

at("filter").addEventListener("input", draw);
at("pause").addEventListener("click", (event) => {
  state.paused = !state.paused;
  event.target.setAttribute("aria-pressed", String(state.paused));
});
for (const head of document.querySelectorAll("th[data-order]")) {
  head.firstChild.addEventListener("click", () => {
    state.down = state.order === head.dataset.order ? !state.down : head.dataset.order !== "name";
    state.order = head.dataset.order;
    draw();
  });
}
at("explain").addEventListener("submit", (event) => {
  event.preventDefault();
  ask({ op: "explain", key: at("key").value });
});
at("control").addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.submitter && event.submitter.name === "clear") {
    if (confirm("Clear the cache?")) ask({ op: "clear" });
  } else if (at("tag").value) ask({ op: "invalidate", tag: at("tag").value });
});
connect();
