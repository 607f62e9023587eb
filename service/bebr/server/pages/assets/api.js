// Requests to this service, with the API key that was typed into the page: it stays in this tab.
const KEY = "bebr-api-key";

/** Let people type a key; `changed` is called when they did. */
export function keyForm(changed) {
  const box = document.getElementById("key-box"), field = document.getElementById("key");
  field.value = sessionStorage.getItem(KEY) ?? "";
  document.getElementById("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, field.value.trim());
    box.open = false;
    changed();
  });
  return () => { box.open = true; field.focus(); };
}

/** Send a request; `body` is JSON text. Returns the status, the text of the answer and the milliseconds it took. */
export async function send(method, path, body) {
  const headers = {}, key = sessionStorage.getItem(KEY);
  if (key) headers.authorization = `Bearer ${key}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  const began = performance.now();
  const answer = await fetch(path, { method, headers, body });
  const text = await answer.text();
  return { status: answer.status, ok: answer.ok, text, ms: performance.now() - began };
}

/** The same, for answers of JSON. Throws an Error with the service's own words. */
export async function json(method, path, body) {
  const answer = await send(method, path, body && JSON.stringify(body));
  let content;
  try { content = JSON.parse(answer.text); } catch { content = { detail: answer.text }; }
  if (!answer.ok) {
    const error = new Error(content.detail || content.title || `HTTP ${answer.status}`);
    error.status = answer.status;
    throw error;
  }
  return { content, ms: answer.ms };
}

/** An element with text and children; whatever the text holds is shown as it is. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}
