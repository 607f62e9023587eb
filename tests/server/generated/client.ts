// A program of a user, with the types that openapi-typescript makes of /openapi.json. Compiled with --strict, then run.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };

type Point = components["schemas"]["Point"];
type Search = components["schemas"]["Search"];

const client = createClient<paths>({ baseUrl: process.argv[2] });
const path = { collection: "docs" };

function check(holds: boolean, what: unknown): void {
  if (!holds) throw new Error(JSON.stringify(what));
}

const created = await client.PUT("/v1/collections/{collection}", {
  params: { path },
  body: { bundle: "tiny@1", filterable: { lang: "keyword", tags: "keyword[]", year: "integer" } },
});
if (created.error) throw new Error(created.error.detail);
type Scalar = "keyword" | "integer" | "float" | "bool" | "datetime";
const type: Scalar | `${Scalar}[]` = created.data.filterable["tags"];
check(type === "keyword[]" && created.data.points === 0 && created.data.fit === null, created.data);

const points: Point[] = [
  { id: "a", text: "a quick brown fox", metadata: { lang: "en", tags: ["x", "y"], year: 2020 } },
  { id: "b", text: "parse a date", metadata: { lang: "de" } },
  { id: "c", text: "binary codes" },
];
const written = await client.POST("/v1/collections/{collection}/points", {
  params: { path, query: { mode: "upsert" }, header: { "Idempotency-Key": "once" } },
  body: { points },
});
if (written.error) throw new Error(written.error.detail);
check(written.data.applied === 3 && written.data.items.length === 0, written.data);

const search: Search = { text: "parse a date", limit: 3 };
const found = await client.POST("/v1/collections/{collection}/search", { params: { path }, body: search });
if (found.error) throw new Error(found.error.detail);
check(found.data.hits.length === 3 && found.data.hits[0].id === "b", found.data);

const filtered = await client.POST("/v1/collections/{collection}/search", {
  params: { path },
  body: {
    ...search,
    with_metadata: ["tags"],
    filter: {
      must: [{ key: "year", range: { gte: 2000 } }, { should: [{ key: "tags", match: { any: ["y"] } }] }],
      must_not: [{ has_id: ["c"] }, { is_empty: { key: "lang" } }, { key: "lang", match: { except: ["en"] } }],
    },
  },
});
if (filtered.error) throw new Error(filtered.error.detail);
const [hit] = filtered.data.hits;
const metadata: { [key: string]: unknown } | undefined = hit.metadata;
check(filtered.data.hits.length === 1 && hit.id === "a" && "tags" in (metadata ?? {}), filtered.data);

const lines = ['{"id": "d", "text": "time string"}', '{"id": 7}'].join("\n");
const job = await client.POST("/v1/collections/{collection}/ingest", {
  params: { path },
  headers: { "content-type": "application/x-ndjson" },
  body: lines,
  bodySerializer: (body) => body,
});
if (job.error) throw new Error(job.error.detail);

const deleted = await client.POST("/v1/collections/{collection}/points/delete", {
  params: { path },
  body: { filter: { must: [{ key: "lang", match: { value: "en" } }] } },
});
if (deleted.error) throw new Error(deleted.error.detail);
check(deleted.data.deleted === 1, deleted.data);

const missing = await client.GET("/v1/collections/{collection}/points/{id}", { params: { path: { ...path, id: "a" } } });
check(missing.error?.error === "PointNotFound" && missing.response.status === 404, missing.error);
const refused = await client.POST("/v1/collections/{collection}/points/count", { params: { path } });
check(typeof refused.data?.count === "number", refused.error);
const dropped = await client.DELETE("/v1/collections/{collection}", { params: { path } });
check(dropped.data?.deleted === "docs", dropped.error);
console.log("done");
