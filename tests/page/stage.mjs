// What a test of the page stands on: `weir standalone` with a real Envoy and traffic, `weir dashboard`, and a browser.

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

const require = createRequire(process.env.PAGE_PACKAGES);
const { chromium } = require("playwright-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const TARGET = process.env.WEIR_TARGET;
const program = (name) => join(TARGET, "debug", name);
/** Longest time that anything may take to happen, on a machine that is busy with other things. */
export const PATIENCE = 240_000;

/** Waits until something holds, and returns it. */
export async function until(what, holds) {
  const begun = Date.now();
  let last;
  while (Date.now() - begun < PATIENCE) {
    try {
      const found = await holds();
      if (found) return found;
    } catch (error) {
      last = error;
    }
    await pause(50);
  }
  throw new Error(`never ${what}${last ? `: ${last}` : ""}`);
}

/** Returns a port that nobody listens at, and that no connection is given by itself. */
async function freePort() {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 10_000);
    const server = createServer();
    const free = await new Promise((go) => server.once("error", () => go(false)).listen(port, "127.0.0.1", () => go(true)));
    if (!free) continue;
    await new Promise((go) => server.close(go));
    return port;
  }
}

/** A folder with a Weir on it, as `tests/standalone/site.rs` has it. */
export class Site {
  static async serving({ fails = "" } = {}) {
    const site = new Site();
    site.folder = mkdtempSync(join(tmpdir(), "weir-page-"));
    site.listen = `127.0.0.1:${await freePort()}`;
    site.http = `127.0.0.1:${await freePort()}`;
    site.release("v1", fails);
    site.start();
    try {
      await until("initialized", async () => (await site.canary()).phase === "Initialized");
    } catch (error) {
      // What was started would keep this program alive for ever.
      await site.end();
      throw error;
    }
    return site;
  }

  /** Declares a version of the service; `more` is appended to its arguments. */
  release(version, more = "", analysis = "") {
    const command = [program("weir-demo"), "serve", "--version", version, ...more.split(" ").filter(Boolean)];
    const documents = [
      { apiVersion: "weir.dev/v1beta1", kind: "Process", metadata: { name: "shop" }, spec: { command, readinessProbe: { httpGet: { path: "/healthz" } } } },
      { apiVersion: "weir.dev/v1beta1", kind: "Canary", metadata: { name: "shop" }, spec: {
        targetRef: { kind: "Process", name: "shop" }, service: { hosts: ["*"] },
        analysis: { interval: "2s", threshold: 2, stepWeights: [10, 30, 50], metrics: [{ name: "request-success-rate", thresholdRange: { min: 99 } }, { name: "request-duration", thresholdRange: { max: 500 } }], ...analysis },
      } },
    ];
    const path = join(this.folder, "shop.yaml");
    // JSON is YAML. A rename, as an editor does.
    writeFileSync(`${path}.new`, documents.map((it) => JSON.stringify(it)).join("\n---\n"));
    renameSync(`${path}.new`, path);
  }

  start() {
    const module = join(TARGET, "weir-filter.wasm");
    for (const built of [program("weir"), program("weir-demo"), module]) if (!existsSync(built)) throw new Error(`build first: there is no ${built}`);
    const args = ["standalone", "--dir", this.folder, "--listen", this.listen, "--http", this.http, "--concurrency", "2"];
    this.weir = spawn(program("weir"), args, { env: { ...process.env, WEIR_FILTER: module, RUST_LOG: "info" }, stdio: "ignore" });
  }

  load() {
    this.traffic = spawn(program("weir-demo"), ["load", "--url", `http://${this.listen}/`, "--rate", "100"], { stdio: "ignore" });
  }

  async api(path) {
    const answer = await fetch(`http://${this.http}/api/v1${path}`);
    return answer.json();
  }

  canary() {
    return this.api("/canaries/default/shop");
  }

  /** Kills Weir as `kill -9` does; Envoy and the processes go on. */
  async kill() {
    const gone = new Promise((go) => this.weir.once("exit", go));
    this.weir.kill("SIGKILL");
    await gone;
  }

  async end() {
    this.traffic?.kill("SIGKILL");
    if (this.weir.exitCode === null && this.weir.signalCode === null) {
      const gone = new Promise((go) => this.weir.once("exit", go));
      // It ends Envoy and the processes.
      this.weir.kill("SIGINT");
      await gone;
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** `weir dashboard` of a server, and the address that it prints. */
export class Dashboard {
  static async of(server, ...more) {
    const dashboard = new Dashboard();
    dashboard.process = spawn(program("weir"), ["dashboard", "--server", server, ...more], { stdio: ["ignore", "pipe", "inherit"] });
    const printed = await new Promise((go) => dashboard.process.stdout.once("data", go));
    dashboard.address = String(printed).trim();
    dashboard.origin = new URL(dashboard.address).origin;
    return dashboard;
  }

  /** Stops answering, or goes on, as a cut network has it. */
  signal(signal) {
    this.process.kill(signal);
  }

  end() {
    this.process.kill("SIGCONT");
    this.process.kill("SIGKILL");
  }
}

/** An API that says whatever a test wants, as a Weir that is hostile or very large would. */
export class Said {
  static async of(answer) {
    const said = new Said();
    said.server = createServer(async (request, response) => {
      const [status, body] = await answer(request.method, new URL(request.url, "http://x"));
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    });
    await new Promise((go) => said.server.listen(0, "127.0.0.1", go));
    said.address = `http://127.0.0.1:${said.server.address().port}`;
    return said;
  }

  end() {
    this.server.closeAllConnections();
    this.server.close();
  }
}

/** A Canary as the API has it, with everything. */
export const EXAMPLE = JSON.parse(readFileSync(new URL("../../cli/tests/golden/canary.json", import.meta.url)));

/** Serves these Canaries; `number` grows with each change. */
export function api(views, refuse) {
  const state = { views, number: 1 };
  const summary = (view) => ({
    namespace: view.namespace, name: view.name, phase: view.phase, since: view.since, reason: view.reason, message: view.message, weight: view.weight, paused: view.paused, stalled: view.stalled, restricted: view.restricted,
    attention: view.attention ?? (view.phase === "Failed" ? "person" : view.run ? "moving" : "resting"), step: view.step && [view.step.number, view.step.of],
    canary: [view.canary.failed, view.canary.ended], primary: [view.primary.failed, view.primary.ended],
  });
  const answer = (method, { pathname, searchParams }) => {
    if (method === "POST") return refuse ?? [202, {}];
    if (pathname === "/api/v1/summaries") {
      const since = Number((searchParams.get("since") || "-0").split("-")[1]);
      const items = state.views.filter((view) => (view.number ?? 1) > since).map(summary);
      return [200, { cursor: `1-${state.number}`, whole: since === 0, items, gone: [], problems: state.problems ?? [] }];
    }
    const [namespace, name] = pathname.split("/").slice(-2).map(decodeURIComponent);
    const found = state.views.find((view) => view.namespace === namespace && view.name === name);
    return found ? [200, found] : [404, { error: "no such Canary" }];
  };
  return { state, answer };
}

export class Browser {
  static async start() {
    const browser = new Browser();
    browser.chromium = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--font-render-hinting=none"] });
    return browser;
  }

  /** Opens an address; whatever goes wrong in the page, and whatever it asks others, is kept. */
  async open(address, { width = 1280, height = 900, scheme = "light", mobile = false, forcedColors = "none" } = {}) {
    const context = await this.chromium.newContext({ viewport: { width, height }, colorScheme: scheme, forcedColors, deviceScaleFactor: mobile ? 2 : 1, hasTouch: mobile, isMobile: mobile, timezoneId: "UTC", locale: "en-GB", reducedMotion: "reduce" });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    page.errors = [];
    page.foreign = [];
    page.on("pageerror", (error) => page.errors.push(String(error)));
    page.on("console", (message) => message.type() === "error" && !/ERR_|status of/.test(message.text()) && page.errors.push(message.text()));
    page.on("dialog", (dialog) => {
      page.errors.push(`dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    const { origin } = new URL(address);
    page.on("request", (request) => new URL(request.url()).origin !== origin && page.foreign.push(request.url()));
    await page.goto(address);
    return page;
  }

  end() {
    return this.chromium.close();
  }
}

/** What a person who cannot see, or sees badly, would stumble over. */
export async function barriers(page) {
  await page.evaluate(AXE);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return found.violations.map((it) => `${it.id}: ${it.help}: ${it.nodes.map((node) => `${node.target} ${node.failureSummary}`).join(" | ")}`);
}

/** Takes a picture: for the documentation, or to be looked at. */
export async function picture(page, name, options = {}) {
  const folder = process.env.WEIR_SCREENSHOTS ?? join(TARGET, "page");
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`), ...options });
}

export { pause };
