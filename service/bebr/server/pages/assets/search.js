import { element, json, keyForm } from "./api.js";

const $ = (id) => document.getElementById(id);
const form = $("search"), picked = $("collection"), text = $("text"), hits = $("hits"), status = $("status");
const LONG = 80; // a value with more characters is shown as a paragraph
let collections = [], latest = 0;
const askForKey = keyForm(start);

function say(words, bad = false) {
  status.textContent = words;
  status.classList.toggle("bad", bad);
}

function fails(error) {
  say(error.message, true);
  if (error.status === 401) askForKey();
}

/** What the address says: a link to a search can be kept and sent. */
const address = () => new URLSearchParams(location.hash.slice(1));

async function start() {
  try {
    collections = (await json("GET", "v1/collections")).content.collections;
  } catch (error) { return fails(error); }
  picked.replaceChildren(...collections.map(({ name }) => element("option", { value: name, textContent: name })));
  if (!collections.length) return say("There is no collection yet. The demo makes one: bebr demo");
  fromAddress();
}

function fromAddress() {
  const given = address();
  if (collections.some(({ name }) => name === given.get("collection"))) picked.value = given.get("collection");
  text.value = given.get("text") ?? "";
  $("limit").value = given.get("limit") ?? 10;
  showCollection();
  for (const part of ["field", "operator", "value"]) if (given.has(part)) $(`filter-${part}`).value = given.get(part);
  const id = given.get("id");
  if (id !== null) search({ id });
  else if (text.value) search({ text: text.value });
  else { hits.replaceChildren(); say(""); text.focus(); }
}

function toAddress(query) {
  const next = new URLSearchParams({ collection: picked.value, limit: $("limit").value, ...query });
  if ($("filter-value").value) for (const part of ["field", "operator", "value"]) next.set(part, $(`filter-${part}`).value);
  if (next.toString() === address().toString()) fromAddress();
  else location.hash = next; // which calls fromAddress
}

const described = () => collections.find(({ name }) => name === picked.value);

function showCollection() {
  const { points, filterable, takes } = described();
  const takesText = takes.includes("text");
  $("about").textContent = `${points.toLocaleString()} points` +
    (takesText ? "" : "; it takes no texts: ask for points like one of them, by its id");
  text.placeholder = takesText ? "What are you looking for?" : "Id of a point";
  const fields = Object.keys(filterable ?? {}), before = $("filter-field").value;
  $("filter").hidden = !fields.length;
  $("filter-field").replaceChildren(...fields.map((name) => element("option", { value: name, textContent: name })));
  if (fields.includes(before)) $("filter-field").value = before;
  else $("filter-value").value = "";
}

/** The value as the field's type wants it. */
function typed(value, kind) {
  if (/^(integer|float)/.test(kind)) return Number(value);
  return kind.startsWith("bool") ? value === "true" : value;
}

function filter() {
  const value = $("filter-value").value.trim(), key = $("filter-field").value, operator = $("filter-operator").value;
  if (!value || !key) return undefined;
  const kind = described().filterable[key].type ?? described().filterable[key], given = typed(value, kind);
  return { must: [operator === "is" ? { key, match: { value: given } } : { key, range: { [operator]: given } }] };
}

async function search(query) {
  const mine = ++latest;
  say("searching …");
  const wanted = { ...query, limit: Number($("limit").value) || 10, explain: $("explain").checked };
  const where = filter();
  if (where) wanted.filter = where;
  try {
    const path = `v1/collections/${encodeURIComponent(picked.value)}/search`;
    const { content, ms } = await json("POST", path, wanted);
    if (mine !== latest) return; // a later search is under way
    show(content, ms, query);
  } catch (error) {
    if (mine !== latest) return;
    hits.replaceChildren();
    fails(error);
  }
}

function show({ hits: found, took_ms, explain }, ms, query) {
  const like = "id" in query ? ` like ${query.id}` : "";
  say(`${found.length} hits${like}; the service took ${took_ms.toFixed(1)} ms, with the way here ${ms.toFixed(0)} ms`);
  hits.replaceChildren(...found.map(hit));
  $("explanation").hidden = !explain;
  $("explained").textContent = explain ? JSON.stringify(explain, null, 2) : "";
}

function hit({ id, score, version, metadata }) {
  const long = [], short = [];
  for (const [name, value] of Object.entries(metadata ?? {})) {
    const shown = typeof value === "string" ? value : JSON.stringify(value);
    (shown.length > LONG ? long : short).push([name, shown]);
  }
  const more = element("button", { type: "button", className: "quiet more", textContent: "more like this" });
  more.addEventListener("click", () => toAddress({ id }));
  const bar = element("meter", { min: 0, max: 1, value: Math.max(0, score), title: `score ${score}` });
  const row = element("li", { tabIndex: -1 },
    element("div", { className: "top" },
      element("span", { className: "id", textContent: id }), bar,
      element("span", { textContent: score.toFixed(3), title: `code version ${version}` }), more),
    ...long.map(([name, value]) => element("p", { title: name, textContent: value })),
    element("dl", {}, ...short.map(([name, value]) =>
      element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: value })))));
  row.dataset.id = id;
  return row;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const typed = text.value.trim();
  if (!typed || !collections.length) return;
  toAddress(described().takes.includes("text") ? { text: typed } : { id: typed });
});
picked.addEventListener("change", showCollection);
addEventListener("hashchange", fromAddress);

/** Arrows walk over the hits, Enter asks for more like one, Escape and / go back to the text. */
addEventListener("keydown", (event) => {
  const rows = [...hits.children], at = rows.indexOf(document.activeElement?.closest("#hits li"));
  const inField = event.target.matches("input, select, textarea");
  const goTo = (row) => { event.preventDefault(); row?.focus(); };
  if (event.key === "/" && !inField) goTo(text);
  else if (event.key === "Escape" && at >= 0) goTo(text);
  else if (event.key === "ArrowDown" && (at >= 0 || event.target === text)) goTo(rows[at + 1]);
  else if (event.key === "ArrowUp" && at >= 0) goTo(rows[at - 1] ?? text);
  else if (event.key === "Enter" && at >= 0 && event.target === rows[at]) toAddress({ id: rows[at].dataset.id });
});

start();
