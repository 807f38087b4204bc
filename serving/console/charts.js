// Small charts that are drawn anew at each look. One kind for a line over the last minutes, one for bars.

import { el, say, svg } from "/console/dom.js";

const WIDTH = 300, HEIGHT = 64, TOP = 4;

function path(points, x, y) {
  let drawn = "", open = false;
  for (const [at, value] of points) {
    if (value === null) { open = false; continue; }
    // A point alone is a line of no length, which a round cap shows as a dot.
    drawn += open ? `L${x(at).toFixed(1)} ${y(value).toFixed(1)}` : `M${x(at).toFixed(1)} ${y(value).toFixed(1)}h0`;
    open = true;
  }
  return drawn;
}

function area(points, x, y) {
  const parts = [];
  let run = [];
  for (const [at, value] of [...points, [0, null]]) {
    if (value !== null) { run.push([at, value]); continue; }
    if (run.length > 1) parts.push(`${path(run, x, y)}L${x(run.at(-1)[0]).toFixed(1)} ${HEIGHT}L${x(run[0][0]).toFixed(1)} ${HEIGHT}Z`);
    run = [];
  }
  return parts.join("");
}

// `update({ shown, note, lines: [[[at, value], ...], ...], until, span, format, empty })`
export function lineChart(label, names = []) {
  const big = el("strong", { class: "big" }, "–");
  const note = el("span", { class: "muted note" });
  const most = el("span", { class: "most muted" });
  const empty = el("p", { class: "empty muted" });
  const from = el("span");
  const fills = svg("path", { class: "area" });
  const strokes = (names.length ? names : [""]).map((_, i) => svg("path", { class: `line line${i}` }));
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    svg("path", { class: "ground", d: `M0 ${HEIGHT - 0.5}H${WIDTH}` }), fills, ...strokes);
  const legend = names.length > 1 &&
    el("span", { class: "legend" }, names.map((name, i) => el("span", { class: `key key${i}` }, name)));
  const node = el("figure", { class: "chart" },
    el("figcaption", {}, el("span", { class: "label" }, label), legend), big, note,
    el("div", { class: "plot" }, picture, most, empty),
    el("div", { class: "times muted", "aria-hidden": true }, from, el("span", {}, "now")));
  function update(shown) {
    say(big, shown.shown);
    say(note, shown.note ?? "");
    say(empty, shown.empty ?? "");
    say(from, shown.span < 90 ? "1 min ago" : `${Math.round(shown.span / 60)} min ago`);
    node.classList.toggle("blank", Boolean(shown.empty));
    const lines = shown.empty ? [] : shown.lines;
    const high = Math.max(0, ...lines.flat().map(([, value]) => value ?? 0));
    const x = at => WIDTH * (1 - (shown.until - at) / shown.span);
    const y = value => HEIGHT - 1 - (HEIGHT - TOP - 1) * (high ? value / high : 0);
    strokes.forEach((stroke, i) => stroke.setAttribute("d", path(lines[i] ?? [], x, y)));
    fills.setAttribute("d", area(lines.at(-1) ?? [], x, y));
    say(most, high && !shown.empty ? shown.format(high) : "");
    picture.setAttribute("aria-label", `${label}: ${shown.empty ?? `now ${shown.shown}${high ? `, at most ${shown.format(high)} in the last minutes` : ""}`}`);
  }
  return { node, update };
}

// One line a row: its name, a bar from 0 to 1, its figure.
export function bars(rows) {
  return el("ul", { class: "bars" }, rows.map(([name, part, shown, kind]) => {
    const wide = Math.max(0, Math.min(1, part)) * 100;
    return el("li", { class: kind },
      el("span", { class: "name" }, name),
      svg("svg", { class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": true },
        svg("rect", { class: "track", width: 100, height: 8 }), svg("rect", { class: "filled", width: wide.toFixed(2), height: 8 })),
      el("span", { class: "figure" }, shown));
  }));
}

// Contributions to a score: bars to both sides of the base, each from where the one before ended.
export function waterfall(rows, base, score, format) {
  const ends = [base];
  for (const { contribution } of rows) ends.push(ends.at(-1) + contribution);
  const low = Math.min(...ends, score), span = (Math.max(...ends, score) - low) || 1;
  const x = value => 2 + 96 * (value - low) / span;
  const line = (name, from, to, shown, kind) => el("li", { class: kind },
    el("span", { class: "name" }, name),
    svg("svg", { class: "bar", viewBox: "0 0 100 14", preserveAspectRatio: "none", "aria-hidden": true },
      svg("path", { class: "base", d: `M${x(base).toFixed(2)} 0V14` }),
      svg("rect", { x: Math.min(x(from), x(to)).toFixed(2), width: Math.max(0.6, Math.abs(x(to) - x(from))).toFixed(2), y: 2, height: 10 })),
    el("span", { class: "figure" }, shown));
  return el("ul", { class: "bars waterfall" },
    line("Base: mean of training rows", base, base, format(base), "end"),
    rows.map((row, i) => line(row.name, ends[i], ends[i + 1], `${row.contribution >= 0 ? "+" : "−"}${format(Math.abs(row.contribution))}`, row.contribution >= 0 ? "up" : "down")),
    line("Score of this row", score, score, format(score), "end"));
}
