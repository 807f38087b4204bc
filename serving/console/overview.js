// What is live, a card for each model.

import { lineChart } from "/console/charts.js";
import { el, say } from "/console/dom.js";
import * as format from "/console/format.js";
import * as looks from "/console/looks.js";

const EMPTY = "No requests yet";

// The three charts of one model and how they follow its traffic.
export function traffic() {
  const rate = lineChart("Requests per second");
  const times = lineChart("Latency", ["p50", "p99"]);
  const errors = lineChart("Errors and refusals");
  const node = el("div", { class: "charts" }, rate.node, times.node, errors.node);

  function update(seen) {
    const { recent, minute, points, until, span } = seen;
    const whole = seen.whole ?? { requests: 0 };
    const empty = whole.requests ? "" : EMPTY;
    const lines = pick => points.map(point => [point.at, pick(point)]);
    rate.update({
      shown: empty ? "–" : recent ? format.rate(recent.rate) : "measuring",
      note: empty ? "" : `${format.short(whole.requests)} since the start`,
      lines: [lines(point => point.rate)], until, span, format: value => `${format.rate(value)}/s`, empty,
    });
    const timed = minute?.p99 != null ? minute : whole;
    times.update({
      shown: empty ? "–" : format.duration(timed.p99 ?? 0),
      note: empty ? "" : `p99; p50 ${format.duration(timed.p50 ?? 0)}${timed === minute ? "" : ", since the start"}`,
      lines: [lines(point => point.p50), lines(point => point.p99)], until, span, format: format.duration, empty,
    });
    const recently = minute?.requests ? minute : whole;
    const bad = recently.failed + recently.busy + recently.refused;
    errors.update({
      shown: empty ? "–" : format.percent(bad / recently.requests),
      note: empty ? "" : bad ? parts(recently) : recently === minute ? "none in the last minute" : "none since the start",
      lines: [lines(point => point.requests ? point.failed + point.busy + point.refused : 0)],
      until, span, format: value => format.plural(value, "request"), empty,
    });
  }
  return { node, update };
}

function parts(counts) {
  return [
    counts.failed && `${format.count(counts.failed)} failed`,
    counts.busy && `${format.count(counts.busy)} too busy`,
    counts.refused && `${format.count(counts.refused)} refused`,
  ].filter(Boolean).join(", ");
}

export function drift(figures) {
  if (figures?.drift_rows == null) return { text: "Not watched", kind: "" };
  const worst = Object.entries(figures.drift)[0];
  if (!worst?.[1]) return { text: figures.drift_rows ? `${format.plural(figures.drift_rows, "row")} so far` : "No rows yet", kind: "" };
  const where = worst[0] || "the scores";
  if (!figures.drift_alarm) return { text: `None (largest PSI ${worst[1].toFixed(2)})`, kind: "good" };
  return { text: `Alarm: PSI ${worst[1].toFixed(2)} in ${where}`, kind: "bad" };
}

export function quality(found) {
  if (found?.value == null) return { text: "No outcomes yet", kind: "" };
  const name = format.metric(found.metric ?? "");
  const shown = `${name} ${format.number(found.value)} (${format.number(found.low)} to ${format.number(found.high)})`;
  if (found.broken) return { text: `${shown}, below the promise ${format.number(found.promise)}`, kind: "bad" };
  return { text: found.promise == null ? shown : `${shown}, promised ${format.number(found.promise)}`, kind: "good" };
}

export function besideOf(each, figures) {
  if (each.role === "shadow") {
    const seen = figures?.shadows[each.version];
    const words = seen?.rows ? `agrees on ${format.percent((seen.agreed ?? 0) / seen.rows)} of ${format.plural(seen.rows, "row")}` : "has scored no rows yet";
    return `Shadow, version ${each.version}: ${words}`;
  }
  const counts = looks.countsOf(figures?.versions[each.version]);
  const words = each.stopped ? `stopped: ${each.stopped}` : `${format.plural(counts.total, "request")} from ${each.percent} % of the callers, ${counts.failed + counts.busy} failed`;
  return `Canary, version ${each.version}: ${words}`;
}

function fact(label) {
  const value = el("dd");
  return { node: el("div", {}, el("dt", {}, label), value), set: ({ text, kind }) => { say(value, text); value.className = kind; } };
}

function modelCard(name) {
  const version = el("span", { class: "badge" });
  const about = el("p", { class: "muted about" });
  const charts = traffic();
  const [waiting, drifting, live] = ["Queue", "Drift", "Live quality"].map(fact);
  const beside = el("ul", { class: "beside" });
  const node = el("article", { class: "panel model" },
    el("div", { class: "head" }, el("h2", {}, el("a", { href: `/console/${name}`, "data-inside": true }, name)), version, el("span", { class: "badge role" }, "champion")),
    about, charts.node, el("dl", { class: "facts" }, waiting.node, drifting.node, live.node), beside);

  function update(model) {
    const seen = looks.of(name);
    say(version, `version ${model.version}`);
    const runs = model.runtime === "onnx" ? "runs in onnxruntime" : "runs in a process of its own";
    say(about, `${model.algorithm || "Model"}, ${model.task}, ${runs}`);
    charts.update(seen);
    const queue = seen.figures?.queue_rows ?? 0;
    waiting.set({ text: queue ? `${format.plural(queue, "row")} waiting` : "Empty", kind: "" });
    drifting.set(drift(seen.figures));
    live.set(quality(seen.figures?.quality[model.version]));
    const lines = model.beside.map(each => [besideOf(each, seen.figures), each.stopped]);
    if (lines.map(([text]) => text).join() !== [...beside.children].map(item => item.textContent).join()) {
      beside.replaceChildren(...lines.map(([text, stopped]) => el("li", { class: stopped ? "bad" : null }, text)));
    }
  }
  return { node, update };
}

export function notLive(found) {
  const what = found.name === null ? "models.lock is not followed" :
    [found.name, found.role, found.tag && `(${found.tag})`].filter(Boolean).join(" ") + " is refused";
  return el("li", { class: "panel bad" }, el("strong", {}, what), el("p", {}, found.reason));
}

export function overview() {
  const refused = el("ul", { class: "refused" });
  const grid = el("div", { class: "grid" });
  const none = el("p", { class: "notice", hidden: true }, "No model is live.");
  const foot = el("p", { class: "foot muted" });
  const node = el("div", {}, el("h1", { tabindex: -1 }, "What is live"), refused, none, grid, foot);
  const cards = new Map();
  let told = "";

  function update(state) {
    const names = state.models.map(model => model.name);
    for (const [name, card] of cards) if (!names.includes(name)) { card.node.remove(); cards.delete(name); }
    state.models.forEach((model, i) => {
      if (!cards.has(model.name)) cards.set(model.name, modelCard(model.name));
      const card = cards.get(model.name);
      if (grid.children[i] !== card.node) grid.insertBefore(card.node, grid.children[i] ?? null);
      card.update(model);
    });
    none.hidden = names.length > 0;
    say(foot, `Okamochi ${state.server}. Figures of all workers, without explanations, at ${format.time(state.looked.at)}.`);
    const now = JSON.stringify(state.not_live);
    if (now !== told) {
      told = now;
      refused.replaceChildren(...state.not_live.map(notLive));
    }
  }
  return { node, update, title: "Okamochi" };
}
