// What the server counted, a look every few seconds, and the rates and quantiles between two looks.
// The server gives counts since its start, of all its workers; nothing else remembers the last minutes.

const KEEP_S = 300;
const RECENT_S = 12;
const MINUTE_S = 60;
const LEAST_S = 1;

let looks = [];
let bounds = [];

export function add(state) {
  bounds = state.bounds;
  const look = state.looked;
  const last = looks.at(-1);
  if (last && look.at < last.at + LEAST_S) return; // a rate over a moment says nothing
  if (last && fell(last, look)) looks = []; // the server was started again
  looks.push(look);
  looks = looks.filter(each => each.at >= look.at - KEEP_S);
}

export function forget() {
  looks = [];
}

function sum(counts) {
  return Object.values(counts).reduce((total, value) => total + value, 0);
}

function total(look, name) {
  const figures = look.models[name];
  return figures ? sum(figures.requests) : 0;
}

function fell(before, after) {
  return Object.keys(before.models).some(name => total(after, name) < total(before, name));
}

export function countsOf(requests) {
  const counts = { total: 0, failed: 0, refused: 0, busy: 0 };
  for (const [status, value] of Object.entries(requests ?? {})) {
    counts.total += value;
    if (status >= "500") counts.failed += value;
    else if (status === "429") counts.busy += value;
    else if (status >= "400") counts.refused += value;
  }
  return counts;
}

// The time in seconds within which this fraction of the requests is answered; null without requests.
function quantile(buckets, part) {
  const all = buckets.reduce((one, other) => one + other, 0);
  if (!all) return null;
  let below = 0;
  for (let i = 0; i < buckets.length; i++) {
    if (buckets[i] && below + buckets[i] >= part * all) {
      if (i >= bounds.length) return bounds.at(-1);
      const low = i ? bounds[i - 1] : 0;
      return low + (bounds[i] - low) * (part * all - below) / buckets[i];
    }
    below += buckets[i];
  }
  return bounds.at(-1);
}

function between(before, after, name) {
  const now = after.models[name], was = before?.models[name];
  const seconds = before ? after.at - before.at : 0;
  const counts = countsOf(now?.requests), old = countsOf(was?.requests);
  const buckets = (now?.buckets ?? []).map((value, i) => value - (was?.buckets[i] ?? 0));
  const requests = counts.total - old.total;
  return {
    at: after.at,
    requests,
    rate: seconds ? requests / seconds : null,
    p50: quantile(buckets, 0.5),
    p99: quantile(buckets, 0.99),
    failed: counts.failed - old.failed,
    busy: counts.busy - old.busy,
    refused: counts.refused - old.refused,
  };
}

function since(seconds) {
  const last = looks.at(-1);
  return looks.find(look => look.at >= last.at - seconds && look !== last);
}

// All that the page shows of one model's traffic.
export function of(name) {
  const last = looks.at(-1);
  const points = looks.slice(1).map((look, i) => between(looks[i], look, name));
  const start = since(RECENT_S), minute = since(MINUTE_S);
  return {
    figures: last?.models[name],
    whole: last ? between(null, last, name) : null, // since the server started
    recent: start ? between(start, last, name) : null,
    minute: minute ? between(minute, last, name) : null,
    points,
    until: last?.at ?? 0,
    span: Math.max(MINUTE_S, last && looks.length ? last.at - looks[0].at : 0),
  };
}
