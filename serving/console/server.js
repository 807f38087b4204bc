// Requests to this server, with the key of this tab where one is needed.

const KEY = "okamochi-key";

export function key() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function keep(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

// The reply's status and body. Status 0: the server did not answer.
export async function ask(path, body) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  if (key()) headers["X-API-Key"] = key();
  const options = { method: body === undefined ? "GET" : "POST", headers, cache: "no-store", credentials: "omit" };
  if (body !== undefined) options.body = JSON.stringify(body);
  try {
    const reply = await fetch(path, options);
    const text = await reply.text();
    let found = {};
    try { found = JSON.parse(text); } catch { found = { detail: text.slice(0, 300) }; }
    return { status: reply.status, ok: reply.ok, body: found, wait: Number(reply.headers.get("retry-after")) || 0 };
  } catch {
    return { status: 0, ok: false, body: { detail: "The server does not answer." }, wait: 0 };
  }
}

export function reason(reply) {
  return reply.body.detail || reply.body.title || `The server answered ${reply.status}.`;
}
