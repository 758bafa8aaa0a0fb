"use strict";
// Asks for the overview every two seconds while the page is seen, and for one page of streams with
// it. Whatever the agent says is put in as text: nothing here makes markup of a string.
(() => {
  const EVERY = 2000;       // milliseconds between two looks
  const PATIENCE = 10000;   // milliseconds that an answer may take
  const ROWS = 50;          // streams on a page
  const LEAST = 60;         // points that a chart is wide, however young the agent is
  const TYPING = 200;       // milliseconds without a key before a search is sent
  const SVG = "http://www.w3.org/2000/svg";
  const $ = (id) => document.getElementById(id);

  // -- words and numbers ---------------------------------------------------------------------

  const whole = new Intl.NumberFormat("en");
  const number = (value) => {
    if (value < 1000) return String(Number(value.toPrecision(3)));
    for (const [limit, unit] of [[1e6, "k"], [1e9, "M"], [1e12, "G"]]) {
      if (value < limit) return Number((value / (limit / 1000)).toPrecision(3)) + " " + unit;
    }
    return Number((value / 1e12).toPrecision(3)) + " T";
  };
  const bytes = (value) => {
    let unit = 0;
    while (value >= 1024 && unit < 5) { value /= 1024; unit += 1; }
    return Number(value.toPrecision(3)) + " " + ["B", "KiB", "MiB", "GiB", "TiB", "PiB"][unit];
  };
  const duration = (seconds) => {
    if (seconds < 0.001) return Math.round(seconds * 1e6) + " µs";
    if (seconds < 1) return Number((seconds * 1000).toPrecision(3)) + " ms";
    if (seconds < 90) return Number(seconds.toPrecision(3)) + " s";
    if (seconds < 5400) return Math.round(seconds / 60) + " min";
    if (seconds < 129600) return Math.round(seconds / 3600) + " h";
    return Math.round(seconds / 86400) + " d";
  };
  const ago = (now, then) => {
    if (!then) return "–";
    const seconds = Math.round(now - then);
    return seconds < 1 ? "now" : duration(seconds) + " ago";
  };

  // -- the document --------------------------------------------------------------------------

  const element = (name, { text, className, ...attributes } = {}, ...children) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  // Only what has changed is touched: screen readers hear of changes, and a selection stays.
  const say = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  const classed = (node, className) => { if (node.className !== className) node.className = className; };

  // One row for each item; each cell is [text, class of the cell, class of a tag in it].
  const fill = (body, items, cells, nothing) => {
    const width = body.parentElement.tHead.rows[0].cells.length;
    while (body.rows.length > items.length) body.lastElementChild.remove();
    items.forEach((item, index) => {
      let row = body.rows[index];
      if (row && row.cells.length !== width) { row.remove(); row = null; }
      const texts = cells(item);
      if (!row) {
        row = element("tr");
        texts.forEach((_, column) => row.append(
          column === 0 && body.dataset.named ? element("th", { scope: "row" }) : element("td")));
        body.insertBefore(row, body.rows[index] || null);
      }
      texts.forEach(([text, className, tag], column) => {
        const cell = row.cells[column];
        classed(cell, className || "");
        if (!tag) {
          if (cell.firstElementChild) cell.textContent = text; else say(cell, text);
          return;
        }
        const inner = cell.firstElementChild;
        if (inner) { classed(inner, "tag " + tag); say(inner, text); }
        else cell.replaceChildren(element("span", { text, className: "tag " + tag }));
        cell.firstElementChild.title = text;   // where there is no room for all of it
      });
    });
    if (!items.length) {
      body.replaceChildren(element("tr", {}, element("td", { text: nothing, className: "empty", colspan: width })));
    }
  };

  const sparkline = (svg, values, most) => {
    const points = Math.min(most, Math.max(values.length, LEAST));
    const width = 300, height = 42, top = Math.max(...values.map((value) => value || 0), 1e-9);
    const step = width / (points - 1), start = width - step * (values.length - 1);
    let line = "", area = "", from = null;
    const end = (x) => { if (from !== null) area += `L${x.toFixed(1)} ${height}L${from.toFixed(1)} ${height}Z`; from = null; };
    values.forEach((value, index) => {
      const x = start + step * index;
      if (value === null) { end(x - step); return; }
      const y = height - 2 - (height - 6) * value / top;
      const to = `${from === null ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`;
      line += to; area += to;
      if (from === null) from = x;
    });
    end(width);
    svg.querySelector(".line").setAttribute("d", line);
    svg.querySelector(".area").setAttribute("d", area);
  };

  const tile = (title, { chart = false, meter = false } = {}) => {
    const value = element("div", { className: "value", text: "–" }), note = element("div", { className: "note" });
    const body = element("dd", {}, value, note), made = { value, note };
    if (chart) {
      made.svg = document.createElementNS(SVG, "svg");
      for (const [key, text] of [["viewBox", "0 0 300 42"], ["preserveAspectRatio", "none"], ["role", "img"], ["aria-label", title]]) made.svg.setAttribute(key, text);
      for (const name of ["area", "line"]) {
        const path = document.createElementNS(SVG, "path");
        path.setAttribute("class", name);
        made.svg.append(path);
      }
      body.append(made.svg);
    }
    if (meter) {
      made.meter = element("meter", { min: 0, max: 1, low: 0.5, high: 0.8, optimum: 0, "aria-label": title });
      body.append(made.meter);
    }
    $("tiles").append(element("div", { className: "tile" }, element("dt", { text: title }), body));
    return made;
  };
  const tiles = {
    records: tile("Received records", { chart: true }),
    bytes: tile("Received bytes", { chart: true }),
    latency: tile("Acknowledgement latency, p99", { chart: true }),
    flushed: tile("Flushed to the store", { chart: true }),
    wal: tile("WAL in use", { chart: true, meter: true }),
    oldest: tile("Oldest byte that the store lacks"),
  };

  // -- the overview --------------------------------------------------------------------------

  const recent = (values) => {
    const last = values.slice(-3);
    return last.length ? last.reduce((sum, value) => sum + value, 0) / last.length : 0;
  };
  const chart = (shown, values, points, show) => {
    if (!values.length) return;
    sparkline(shown.svg, values, points);
    const present = values.filter((value) => value !== null);
    const most = present.length ? show(Math.max(...present)) : "nothing";
    shown.svg.setAttribute("aria-label", `${duration((values.length - 1) * 2)} of history, at most ${most}`);
    say(shown.note, `at most ${most}`);
  };

  const health = (overview) => {
    const { status, causes } = overview, store = status.store;
    const notes = [...status.reasons];
    const away = Boolean(store && store.away);
    if (away) notes.push("The store does not answer" + (store.reason ? ": " + store.reason : "") + ". Appends go on into the WAL; flushes are tried again.");
    for (const cause of causes) {
      const who = cause.stream ? `flush of ${cause.stream}` : `flushes of ${whole.format(cause.streams)} ${cause.streams === 1 ? "stream" : "streams"}`;
      notes.push(`${who} (${cause.result}): ${cause.code}`);
    }
    if (status.diverted_streams) notes.push(`${whole.format(status.diverted_streams)} streams were diverted to a sibling container: another writer`);
    classed($("health"), "banner " + (status.ready ? (notes.length ? "warn" : "good") : "bad"));
    const word = status.ready
      ? (away ? "Taking appends; the store is away" : notes.length ? "Taking appends, with trouble" : "Healthy: taking appends, the store takes flushes")
      : status.phase === "starting" ? "Starting" : "Not taking everything";
    say($("health-word"), word);
    const list = $("reasons"), texts = [...list.children].map((item) => item.textContent);
    if (texts.join("\n") !== notes.join("\n")) list.replaceChildren(...notes.map((text) => element("li", { text })));
    document.title = (status.ready ? (notes.length ? "! " : "") : "✗ ") + status.node + " · hf-agent";
  };

  const show = (overview) => {
    const { status, history, timestamp: now, flushes, peers } = overview, wal = status.wal;
    say($("node"), status.node);
    say($("facts"), `${status.version} · ${status.phase} · up ${duration(now - status.started_timestamp)}` + (status.store ? ` · ${status.store.url}` : ""));
    health(overview);

    say(tiles.records.value, number(recent(history.received_records)) + "/s");
    chart(tiles.records, history.received_records, history.points, (value) => number(value) + "/s");
    say(tiles.bytes.value, bytes(recent(history.received_bytes)) + "/s");
    chart(tiles.bytes, history.received_bytes, history.points, (value) => bytes(value) + "/s");
    const latency = history.latency_p99, median = history.latency_p50.at(-1);
    say(tiles.latency.value, latency.at(-1) == null ? "–" : duration(latency.at(-1)));
    chart(tiles.latency, latency, history.points, duration);
    if (median != null) say(tiles.latency.note, `p50 ${duration(median)}, ${tiles.latency.note.textContent}`);
    say(tiles.flushed.value, bytes(recent(history.flushed_bytes)) + "/s");
    chart(tiles.flushed, history.flushed_bytes, history.points, (value) => bytes(value) + "/s");
    if (flushes.results) {
      const failed = Object.entries(flushes.results).reduce((sum, [result, count]) => result === "ok" ? sum : sum + count, 0);
      say(tiles.flushed.note, `${number(flushes.results.ok || 0)} flushes, ${number(failed)} failed; ${flushes.running} of ${flushes.concurrency} running`);
    }
    if (wal) {
      const share = wal.size_bytes / wal.max_bytes;
      say(tiles.wal.value, bytes(wal.size_bytes));
      chart(tiles.wal, history.wal_bytes, history.points, bytes);
      say(tiles.wal.note, `${(100 * share).toFixed(1)} % of ${bytes(wal.max_bytes)}; ${wal.state}`);
      tiles.wal.meter.value = share;
      tiles.wal.meter.textContent = (100 * share).toFixed(1) + " %";
      const oldest = status.oldest_unflushed_timestamp;
      say(tiles.oldest.value, oldest ? duration(Math.max(0, now - oldest)) : "nothing");
      say(tiles.oldest.note, `${bytes(status.unflushed_bytes)} in ${whole.format(status.unflushed_streams)} of ${whole.format(status.streams)} streams`);
    }
    fill($("protocols"), overview.protocols, (each) => [
      [each.protocol], [whole.format(each.connections), "n"], [whole.format(each.max_connections), "n"],
      [whole.format(each.received_records), "n"], [bytes(each.received_bytes), "n"], [whole.format(each.acked_records), "n"],
      [whole.format(each.rejected_records), "n", each.rejected_records ? "warn" : ""],
    ], "none");
    fill($("flushes"), flushes.last || [], (each) => [
      [ago(now, each.timestamp), "when"], [each.stream, "wide"], [bytes(each.bytes), "n"], [duration(each.seconds), "n"], [whole.format(each.checkpoint), "n"],
    ], "nothing was flushed yet");
    fill($("peers"), peers.rows, (each) => [
      [each.command || "?", "wide"], [each.pid ? String(each.pid) : "?", "n"], [String(each.uid), "n"], [`${each.protocol} ${each.socket}`, "wide"], [whole.format(each.connections), "n"],
    ], "nobody is connected");
    fill($("events"), overview.events, (each) => [
      [ago(now, each.timestamp), "when"], [each.level, "", each.level === "error" ? "bad" : "warn"], [each.message, "wide"],
      [Object.entries(each.fields).map(([key, value]) => `${key}=${value}`).join("  "), "wide"],
    ], "none since the start");
  };

  // -- streams -------------------------------------------------------------------------------

  const state = { search: "", sort: "-unflushed_bytes", offset: 0, asked: 0, matched: 0 };
  const columns = [
    ["stream", "Stream", ""], ["position", "Received", "n"], ["unflushed_bytes", "Unflushed", "n"],
    ["oldest_unflushed_timestamp", "Oldest", "n"], ["container_bytes", "Container", "n"], ["flushes", "Flushes", "n"],
    ["last_flush_timestamp", "Last flush", "n"], ["error", "State", ""],
  ];
  for (const [field, title, className] of columns) {
    const button = element("button", { type: "button", text: title });
    button.addEventListener("click", () => {
      // Numbers are of interest from the largest on, names from the first.
      const first = field === "stream" ? field : "-" + field;
      state.sort = state.sort === first ? (first === field ? "-" + field : field) : first;
      state.offset = 0;
      heads();
      quietly(streams);
    });
    $("stream-heads").append(element("th", { scope: "col", className, "data-field": field }, button));
  }
  const heads = () => {
    for (const head of $("stream-heads").children) {
      const field = head.dataset.field;
      head.setAttribute("aria-sort", state.sort === field ? "ascending" : state.sort === "-" + field ? "descending" : "none");
    }
  };
  heads();
  $("stream-rows").dataset.named = "yes";
  $("protocols").dataset.named = "yes";

  const ask = async (path) => {
    const response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (!response.ok) throw new Error(`${path.split("?")[0]}: ${response.status}`);
    return response.json();
  };
  const standing = (each) => each.error ? [each.error, "wide", "bad"] : each.diverted ? ["diverted to " + each.key, "wide", "warn"] : ["well", "", "good"];
  const streams = async () => {
    const turn = state.asked += 1;
    const answer = await ask("api/streams?" + new URLSearchParams({ search: state.search, sort: state.sort, offset: state.offset, limit: ROWS }));
    if (turn !== state.asked) return;   // a later question has been asked meanwhile
    const now = Date.now() / 1000 - skew, rows = answer.streams;
    state.matched = answer.matched;
    if (!rows.length && state.offset) { state.offset = 0; await streams(); return; }
    fill($("stream-rows"), rows, (each) => [
      [each.stream], [bytes(each.position), "n"], [bytes(each.unflushed_bytes), "n"],
      [each.oldest_unflushed_timestamp ? duration(Math.max(0, now - each.oldest_unflushed_timestamp)) : "–", "n"],
      [bytes(each.container_bytes), "n"], [whole.format(each.flushes), "n"], [ago(now, each.last_flush_timestamp), "n"], standing(each),
    ], state.search ? "no stream has this in its name" : "no streams yet");
    say($("found"), `${whole.format(answer.matched)} ${answer.matched === 1 ? "stream" : "streams"}`);
    say($("page"), rows.length ? `${whole.format(state.offset + 1)}–${whole.format(state.offset + rows.length)}` : "");
    $("previous").disabled = !state.offset;
    $("next").disabled = !answer.truncated;
  };
  let typing = 0;
  $("search").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => { state.search = $("search").value.trim(); state.offset = 0; quietly(streams); }, TYPING);
  });
  const turn = (by) => { state.offset = Math.max(0, state.offset + by); quietly(streams); };
  $("previous").addEventListener("click", () => turn(-ROWS));
  $("next").addEventListener("click", () => turn(ROWS));

  // -- looking again and again ---------------------------------------------------------------

  let skew = 0, paused = false, timer = 0, lost = 0, looking = false;
  const connected = (text, bad) => { classed($("connection"), bad ? "bad" : ""); say($("connection"), text); };
  const quietly = (work) => work().catch(() => undefined);   // the next look says what is wrong
  const look = async () => {
    clearTimeout(timer);
    if (looking) return;
    looking = true;
    try {
      const overview = await ask("api/overview");
      skew = Date.now() / 1000 - overview.timestamp;
      show(overview);
      await streams();
      lost = 0;
      connected(paused ? "Paused" : "Live", false);
    } catch (error) {
      lost = lost || Date.now();
      connected(`The agent does not answer since ${new Date(lost).toLocaleTimeString("en-GB")}; what is shown is older`, true);
    }
    looking = false;
    if (!paused && !document.hidden) timer = setTimeout(look, EVERY);
  };
  $("pause").addEventListener("click", () => {
    paused = !paused;
    $("pause").setAttribute("aria-pressed", String(paused));
    connected(paused ? "Paused" : "Live", false);
    if (paused) clearTimeout(timer); else look();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused) look(); });
  look();
})();
