// A host written with the TypeScript SDK drives a ctx-mcp server through the whole life of a context.
//
//   node client.mjs stdio COMMAND [ARGUMENT...]  |  node client.mjs http URL  |  node client.mjs sse URL
//
// Ends with status 0 and one line when everything was as promised, else with status 1 and the first mismatch.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ErrorCode, ResourceUpdatedNotificationSchema } from "@modelcontextprotocol/sdk/types.js";

const TOOLS = [
  "context_clear_start",
  "context_clear_status",
  "context_create",
  "context_delete",
  "context_get",
  "context_list",
  "context_update",
  "file_delete",
  "file_download_url",
  "file_edit",
  "file_history",
  "file_list",
  "file_move",
  "file_read",
  "file_restore",
  "file_search",
  "file_upload_url",
  "file_write",
];
/** Tools whose answers can be long promise no structured content; their facts may stand in `_meta`. */
const LARGE_TOOLS = ["file_edit", "file_history", "file_read", "file_search"];
const FACTS_KEY = "ctx-mcp/facts";
const UPLOAD_BYTES = 1024 * 1024 + 7;
const PARALLEL_WRITES = 12;
const NOTICE_TIMEOUT_MS = 10_000;
const MOST_POLLS = 20;

function openTransport([kind, ...target]) {
  switch (kind) {
    case "stdio":
      // The SDK hands a server only a few variables of its own choice; ours is configured by the environment.
      return new StdioClientTransport({ command: target[0], args: target.slice(1), env: process.env });
    case "http":
      return new StreamableHTTPClientTransport(new URL(target[0]));
    case "sse":
      return new SSEClientTransport(new URL(target[0]));
    default:
      throw new Error(`unknown transport ${kind}`);
  }
}

const digest = (bytes) => createHash("sha256").update(bytes).digest("hex");
const texts = (answer) => answer.content.map((block) => block.text ?? "");
const factsOf = (answer) => answer.structuredContent ?? answer._meta?.[FACTS_KEY];
const paths = (page) => page.files.map((file) => file.path);

/** Call a tool that must succeed; both forms of its answer must be there. The SDK holds it to its output schema. */
async function answerOf(client, name, args) {
  const answer = await client.callTool({ name, arguments: args });
  assert.ok(!answer.isError, `${name}(${JSON.stringify(args)}) failed: ${texts(answer)}`);
  assert.ok(factsOf(answer), `${name} gave no facts`);
  assert.ok(texts(answer)[0]?.trim(), `${name} gave no text`);
  return answer;
}

async function call(client, name, args) {
  return factsOf(await answerOf(client, name, args));
}

/** Read a text; it comes once only, as a block of its own between the marks. */
async function read(client, context_id, file_path) {
  return texts(await answerOf(client, "file_read", { context_id, file_path }))[1];
}

/** Call a tool that must refuse, with a code that a program knows and words that a model can act on. */
async function refuse(client, code, name, args) {
  const answer = await client.callTool({ name, arguments: args });
  assert.equal(answer.isError, true, `${name}(${JSON.stringify(args)}) should have failed: ${texts(answer)}`);
  assert.ok(texts(answer)[0].includes(`[${code}]`), `${name} should have failed with ${code}: ${texts(answer)}`);
}

async function checkSurface(client) {
  assert.equal(client.getServerVersion().name, "ctx-mcp");
  await client.ping();
  const { tools } = await client.listTools();
  const names = new Set(tools.map((tool) => tool.name));
  assert.deepEqual(TOOLS.filter((name) => !names.has(name)), [], "tools that are missing");
  for (const { name, title, annotations, outputSchema } of tools) {
    assert.ok(title, `${name} has no title`);
    assert.equal(Boolean(outputSchema), !LARGE_TOOLS.includes(name), `whether ${name} has an output schema`);
    for (const hint of ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"]) {
      assert.equal(typeof annotations?.[hint], "boolean", `${name} does not say its ${hint}`);
    }
  }
  await assert.rejects(client.callTool({ name: "no_such_tool", arguments: {} }), { code: ErrorCode.InvalidParams });
}

async function checkContexts(client) {
  const first = `ts-${randomBytes(4).toString("hex")}`;
  const name = `${first} renamed`;
  const { context_id, created } = await call(client, "context_create", { name: first });
  assert.match(context_id, /^ctx-/);
  assert.equal(created, true);
  const again = await call(client, "context_create", { name: first });
  assert.deepEqual([again.context_id, again.created], [context_id, false], "a name must not be created twice");
  await call(client, "context_update", { context_id, name });
  const found = await call(client, "context_get", { context_id: name });
  assert.equal(found.context_id, context_id, "a context must be found by its new name");
  const { contexts } = await call(client, "context_list", {});
  assert.ok(contexts.some((row) => row.context_id === context_id), "the list must show the context");
  await refuse(client, "Context.NotFound", "context_get", { context_id: first });
  await refuse(client, "Argument.Invalid", "context_get", { context_id, surplus: 1 });
  return { context_id, name };
}

async function checkText(client, context_id) {
  const file_path = "/notes/Übersicht 1.md";
  const content = "first line\r\nzweite Zeile – 日本\n";
  await call(client, "file_write", { context_id, file_path, content });
  assert.equal(await read(client, context_id, file_path), content, "a text must come back as it was written");
  await refuse(client, "File.NotFound", "file_read", { context_id, file_path: "/notes/none.md" });
  await refuse(client, "Path.Invalid", "file_write", { context_id, file_path: "/../escape", content });
  const numbered = Array.from({ length: PARALLEL_WRITES }, (_, index) => `/parallel/${index}.txt`).sort();
  const written = numbered.map((path) => call(client, "file_write", { context_id, file_path: path, content: path }));
  await Promise.all(written);
  const page = await call(client, "file_list", { context_id, parent_folder_path: "/parallel" });
  assert.deepEqual(paths(page), numbered, "every parallel write must be there, in name order");
  const kept = await Promise.all(numbered.map((path) => read(client, context_id, path)));
  assert.deepEqual(kept, numbered, "every parallel write must keep its own content");
}

async function checkChanges(client, context_id) {
  const file_path = "/plan.md";
  const { etag } = await call(client, "file_write", { context_id, file_path, content: "one\ntwo\n" });
  const edits = [{ old_text: "two", new_text: "three" }];
  const edited = await call(client, "file_edit", { context_id, file_path, edits });
  assert.deepEqual([edited.replaced_count, edited.is_changed], [1, true]);
  await refuse(client, "Edit.NotFound", "file_edit", { context_id, file_path, edits });
  const found = await call(client, "file_search", { context_id, query: "three" });
  assert.deepEqual([paths(found), found.files[0].line_numbers], [[file_path], [2]]);
  const { versions } = await call(client, "file_history", { context_id, file_path });
  assert.deepEqual(versions.map((version) => version.etag), [edited.etag, etag]);
  await call(client, "file_restore", { context_id, file_path, version: etag });
  await call(client, "file_move", { context_id, from_path: file_path, to_path: "/done.md" });
  assert.equal(await read(client, context_id, "/done.md"), "one\ntwo\n", "the first version must be back");
}

async function checkBytes(client, context_id) {
  const file_path = "/data/blob 1.bin";
  const bytes = randomBytes(UPLOAD_BYTES);
  const upload = await call(client, "file_upload_url", { context_id, file_path });
  const put = await fetch(upload.url, { method: upload.method, headers: upload.headers, body: bytes });
  assert.ok(put.ok, `${upload.method} answered ${put.status}: ${await put.text()}`);
  const download = await call(client, "file_download_url", { context_id, file_path });
  const got = await fetch(download.url, { method: download.method, headers: download.headers });
  assert.ok(got.ok, `${download.method} answered ${got.status}`);
  assert.equal(digest(Buffer.from(await got.arrayBuffer())), digest(bytes), "a download must equal its upload");
  const part = await fetch(download.url, { headers: { ...download.headers, Range: "bytes=7-16" } });
  assert.equal(part.status, 206, "a download URL must serve ranges");
  assert.deepEqual(Buffer.from(await part.arrayBuffer()), bytes.subarray(7, 17));
  const page = await call(client, "file_list", { context_id, parent_folder_path: "/data" });
  assert.deepEqual(paths(page), [file_path]);
  assert.equal(page.files[0].size_bytes, UPLOAD_BYTES);
  const seen = await call(client, "file_read", { context_id, file_path });
  assert.deepEqual([seen.size_bytes, seen.mime_type], [UPLOAD_BYTES, "application/octet-stream"]);
  await call(client, "file_delete", { context_id, file_path });
  await refuse(client, "File.NotFound", "file_download_url", { context_id, file_path });
  await refuse(client, "File.NotFound", "file_delete", { context_id, file_path });
}

async function checkResources(client, { context_id, name }) {
  const uri = `context://${context_id}`;
  const { resources } = await client.listResources();
  assert.ok(resources.some((resource) => resource.uri === uri), `resources must list ${uri}`);
  const { resourceTemplates } = await client.listResourceTemplates();
  assert.ok(resourceTemplates.some((template) => template.uriTemplate === "context://{context_id}"));
  const { contents } = await client.readResource({ uri });
  assert.ok(contents[0].text.includes(context_id), "a context's resource must tell its id");
  await assert.rejects(client.readResource({ uri: "context://ctx-aaaaaaaaaaaaaaaaa" }));
  const { completion } = await client.complete({
    ref: { type: "ref/resource", uri: "context://{context_id}" },
    argument: { name: "context_id", value: name.slice(0, 5) },
  });
  assert.ok(completion.values.length > 0, "completion must propose the context");
  await checkNotice(client, context_id, uri);
}

async function checkNotice(client, context_id, uri) {
  let timer;
  const notice = new Promise((resolve, reject) => {
    client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => resolve(params.uri));
    timer = setTimeout(() => reject(new Error(`no update of ${uri} was announced`)), NOTICE_TIMEOUT_MS);
  });
  await client.subscribeResource({ uri });
  await call(client, "file_write", { context_id, file_path: "/noticed.txt", content: "new" });
  assert.equal(await notice, uri);
  clearTimeout(timer);
  await client.unsubscribeResource({ uri });
}

async function checkPrompts(client, { context_id }) {
  const { prompts } = await client.listPrompts();
  assert.ok(prompts.length > 0, "there must be a prompt");
  const [{ name, arguments: wanted = [] }] = prompts;
  const values = Object.fromEntries(wanted.map((argument) => [argument.name, context_id]));
  const { messages } = await client.getPrompt({ name, arguments: values });
  assert.ok(messages.length > 0, "a prompt must have a message");
  await assert.rejects(client.getPrompt({ name: "no_such_prompt" }), { code: ErrorCode.InvalidParams });
}

async function checkEnd(client, context_id) {
  let job = await call(client, "context_clear_start", { context_id, confirm: true });
  assert.deepEqual(paths(await call(client, "file_list", { context_id })), [], "files must vanish at once");
  for (let polls = 0; job.state === "working"; polls += 1) {
    assert.ok(polls < MOST_POLLS, "the clear did not end");
    job = await call(client, "context_clear_status", { task_id: job.task_id, wait_s: 5 });
  }
  assert.deepEqual([job.state, job.status], ["completed", "available"]);
  await call(client, "context_delete", { context_id, confirm: true });
  await refuse(client, "Context.NotFound", "context_get", { context_id });
}

async function main(target) {
  const client = new Client({ name: "ctx-mcp-ts-check", version: "1.0.0" });
  await client.connect(openTransport(target));
  try {
    await checkSurface(client);
    const context = await checkContexts(client);
    await checkText(client, context.context_id);
    await checkChanges(client, context.context_id);
    await checkBytes(client, context.context_id);
    await checkResources(client, context);
    await checkPrompts(client, context);
    await checkEnd(client, context.context_id);
  } finally {
    await client.close();
  }
  console.log(`everything as promised over ${target[0]}`);
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
