// Headless Chromium with one page for each phone, asked over HTTP on loopback:
//
//   POST /NAME/open ["jssip"]      a page with a phone of that library
//   POST /NAME/close []            the page is closed; no error when it was
//   POST /NAME/METHOD [arguments]  a method of jssip_phone.js or sipjs_phone.js
//
// The answer is 200 and what the method gave, as JSON, or 500 and the reason. GET / is the page itself.
// Arguments: port, folder for the profile, file for TLS session keys, Chromium's path.
import http from "node:http";

import esbuild from "esbuild";
import puppeteer from "puppeteer-core";

const [port, folder, keys, chromium] = process.argv.slice(2);
const ORIGIN = `http://127.0.0.1:${port}/`;
const HTML = `<!doctype html><meta charset="utf-8"><title>A phone</title><script src="page.js"></script>`;
const pages = new Map();

const bundled = await esbuild.build({
  entryPoints: [new URL("page.js", import.meta.url).pathname], bundle: true, write: false, format: "iife",
});
const browser = await puppeteer.launch({
  executablePath: chromium,
  userDataDir: folder,
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server",
    "--disable-background-networking", "--disable-component-update",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
    "--allow-loopback-in-peer-connection", "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--ignore-certificate-errors", `--ssl-key-log-file=${keys}`,
  ],
});

async function open(name, library) {
  const page = await browser.newPage();
  page.on("console", (message) => console.log(`${name}: ${message.text()}`));
  page.on("pageerror", (error) => console.log(`${name}: ${error}`));
  await page.goto(ORIGIN);
  await page.evaluate((wanted) => window.openPhone(wanted), library);
  pages.set(name, page);
  return library;
}

async function close(name) {
  await pages.get(name)?.close();
  pages.delete(name);
}

function ask(name, method, parameters) {
  const page = pages.get(name);
  if (!page) throw new Error(`${name} is not open`);
  return page.evaluate((...given) => window.ask(...given), method, parameters);
}

const COMMANDS = { open, close };

async function answer(request, response) {
  const [, name, method] = request.url.split("/");
  let text = "";
  for await (const part of request) text += part;
  const parameters = JSON.parse(text || "[]");
  const result = await (COMMANDS[method]?.(name, ...parameters) ?? ask(name, method, parameters));
  response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(result ?? null));
}

const server = http.createServer((request, response) => {
  if (request.method === "GET") {
    const script = request.url === "/page.js";
    response.writeHead(200, { "Content-Type": script ? "text/javascript" : "text/html" });
    response.end(script ? bundled.outputFiles[0].text : HTML);
    return;
  }
  answer(request, response).catch((error) => response.writeHead(500).end(String(error.message ?? error)));
});
server.listen(Number(port), "127.0.0.1", () => console.log("ready"));

process.on("SIGTERM", async () => {
  await browser.close();
  process.exit(0);
});
