// One conversation by a TypeScript SDK, told as JSON: ts_client.mjs MODULES sdk|client ERA http URL KEY | stdio PYTHON URL KEY
import { pathToFileURL } from "node:url";

const [modules, kit, era, transport, ...rest] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(`${modules}/@modelcontextprotocol/${path}`));
const { Client } = await load(kit === "sdk" ? "sdk/dist/esm/client/index.js" : "client/dist/index.mjs");

async function way() {
  if (transport === "http") {
    const { StreamableHTTPClientTransport } = await load(
      kit === "sdk" ? "sdk/dist/esm/client/streamableHttp.js" : "client/dist/index.mjs",
    );
    const [url, key] = rest;
    return new StreamableHTTPClientTransport(new URL(url), {
      requestInit: { headers: { Authorization: `Bearer ${key}` } },
    });
  }
  const { StdioClientTransport } = await load(kit === "sdk" ? "sdk/dist/esm/client/stdio.js" : "client/dist/stdio.mjs");
  const [python, url, key] = rest;
  return new StdioClientTransport({
    command: python,
    args: ["-m", "epad.daemon.entry", "mcp"],
    env: { ...process.env, EPAD_GATEWAY_URL: url, EPAD_GATEWAY_KEY: key },
  });
}

const mode = era === "legacy" ? "legacy" : { pin: era };
const client = new Client({ name: "ts", version: "1" }, kit === "sdk" ? {} : { versionNegotiation: { mode } });
await client.connect(await way());
const call = (name, args) => client.callTool({ name, arguments: args });
const told = { names: (await client.listTools()).tools.map((each) => each.name) };
told.echo = (await call("echo", { text: "grün" })).structuredContent;
told.bad = (await call("bad", {})).isError;
told.unknown = await call("nowhere", {}).then(() => "answered", (error) => error.code);
const many = [...Array(20).keys()].map((n) => call("echo", { text: `${n}` }));
told.many = (await Promise.all(many)).map((each) => each.structuredContent.text);
console.log(JSON.stringify(told));
await client.close();
process.exit(0);
