import { element, keyForm, send } from "./api.js";

const askForKey = keyForm(() => {});
const find = document.getElementById("find");
const rows = [...document.querySelectorAll("details.operation, details.shape, tr[id]")];
const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));

/** Show what has all the words; of sections that have none, nothing. */
function show() {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows) row.hidden = !words.every((word) => texts.get(row).includes(word));
  for (const section of document.querySelectorAll("main section"))
    section.hidden = rows.every((row) => row.hidden || !section.contains(row));
}

/** Open what the address names. */
function open() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!named) return;
  find.value = "";
  show();
  for (let box = named; box; box = box.parentElement.closest("details")) if (box.tagName === "DETAILS") box.open = true;
  named.scrollIntoView();
}

function indented(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

async function tryOut(form) {
  let path = form.dataset.path.slice(1);
  const query = new URLSearchParams();
  for (const field of form.querySelectorAll("input")) {
    if (field.dataset.in === "path") path = path.replace(`{${field.name}}`, encodeURIComponent(field.value));
    else if (field.dataset.in === "query" && field.value) query.set(field.name, field.value);
  }
  if (query.size) path += `?${query}`;
  const output = form.querySelector("output");
  output.replaceChildren("sending …");
  try {
    const answer = await send(form.dataset.method.toUpperCase(), path, form.elements.body?.value);
    const line = element("p", { className: answer.ok ? "" : "bad", textContent: `${answer.status} in ${answer.ms.toFixed(0)} ms` });
    output.replaceChildren(line, element("pre", { textContent: indented(answer.text) }));
    if (answer.status === 401) askForKey();
  } catch (error) {
    output.replaceChildren(element("p", { className: "bad", textContent: error.message }));
  }
}

find.addEventListener("input", show);
addEventListener("hashchange", open);
addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.matches("input, textarea")) { event.preventDefault(); find.focus(); }
});
for (const form of document.querySelectorAll("form.try"))
  form.addEventListener("submit", (event) => { event.preventDefault(); tryOut(form); });
open();
