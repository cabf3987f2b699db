// The page, and whatever may be between it and who serves it: nobody who asks for a token, and a network that is cut.

import assert from "node:assert/strict";
import { createServer, request } from "node:http";
import { after, before, test } from "node:test";

import { Browser, Dashboard, Said, barriers, until } from "./stage.mjs";

let browser;
let said;
let dashboard;
const state = { number: 1, weight: 10 };

before(async () => {
  browser = await Browser.start();
  said = await Said.of((_, { searchParams }) => {
    const since = Number((searchParams.get("since") || "-0").split("-")[1]);
    const item = { namespace: "shop", name: "cart", phase: "Progressing", attention: "moving", reason: "Analysing", message: "next check in 5s", weight: state.weight };
    return [200, { cursor: `1-${state.number}`, whole: since === 0, items: since < state.number ? [item] : [], gone: [], problems: [] }];
  });
  dashboard = await Dashboard.of(said.address);
});

after(async () => {
  dashboard?.end();
  said?.end();
  await browser?.end();
});

/** A network between a browser and the dashboard. What is cut is told to neither. */
class Network {
  static async to(origin) {
    const network = new Network();
    network.answers = new Set();
    const { host, hostname, port } = new URL(origin);
    network.server = createServer((asked, answer) => {
      // A network changes no address: the browser's own is this one's.
      const headers = { ...asked.headers, host, ...(asked.headers.origin && { origin }) };
      const onwards = request({ hostname, port, path: asked.url, method: asked.method, headers }, (told) => {
        answer.writeHead(told.statusCode, told.headers);
        told.on("data", (data) => network.answers.has(answer) && answer.write(data));
        told.on("end", () => network.answers.delete(answer) && answer.end());
      });
      network.answers.add(answer);
      asked.pipe(onwards);
    });
    await new Promise((go) => network.server.listen(0, "127.0.0.1", go));
    network.origin = `http://127.0.0.1:${network.server.address().port}`;
    return network;
  }

  /** From now on nothing comes over the connections that there are. New ones work. */
  cut() {
    this.answers.clear();
  }

  end() {
    this.server.closeAllConnections();
    this.server.close();
  }
}

test("a connection that is dead is told of, given up and made anew", async () => {
  const network = await Network.to(dashboard.origin);
  try {
    const page = await browser.open(dashboard.address.replace(dashboard.origin, network.origin));
    const weight = page.locator(".row .bartext");
    await until("shown", async () => (await weight.innerText()).includes("10 %"));
    network.cut();
    // A machine that slept: its running clock stood still.
    await page.evaluate(() => {
      const now = Date.now;
      Date.now = () => now() + 3_600_000;
    });
    await page.getByText("What you see is 1h00m old").waitFor();
    Object.assign(state, { number: 2, weight: 20 });
    await page.getByText("connection lost").waitFor();
    await until("shown after the cut", async () => (await weight.innerText()).includes("20 %"));
    await page.getByText("live", { exact: true }).waitFor();
    assert.deepEqual(page.errors, []);
    await page.context().close();
  } finally {
    network.end();
  }
});

test("who is let in without a token is told so, and enters one", async () => {
  const page = await browser.open(`${dashboard.origin}/page.css`);
  const detail = { namespace: "shop", name: "cart", phase: "Progressing", reason: "Analysing", message: "a secret", weight: 20 };
  const tokens = [];
  await page.route("**/page/stream*", async (route) => {
    const token = route.request().headers().authorization ?? "";
    tokens.push(token);
    if (token === "Bearer of yesterday") return route.fulfill({ status: 401, contentType: "application/json", body: `{"error": "the API server does not know this token"}` });
    const known = token === "Bearer of ann";
    const partial = known ? {} : { partial: "Without a token names, phases and weights are shown, and no more." };
    const item = known ? { ...detail, attention: "moving" } : { namespace: "shop", name: "cart", phase: "Progressing", weight: 20, attention: "moving" };
    const lines = [{ kind: "hello", title: "this cluster" }, { kind: "list", cursor: "1-1", whole: true, items: [item], gone: [], problems: [], ...partial }];
    if (route.request().url().includes("name=cart")) lines.push({ kind: "detail", detail: item, ...partial });
    await route.fulfill({ status: 200, contentType: "application/x-ndjson", body: lines.map((line) => `${JSON.stringify(line)}\n`).join("") });
  });
  await page.goto(`${dashboard.origin}/`);
  await page.getByRole("link", { name: "shop/cart" }).click();
  await page.getByText("Canary weight: 20 %").waitFor();
  assert.equal(await page.getByText("Nothing is compared now").isVisible(), false, "what is not shown is not said to be nothing");
  assert.deepEqual(await barriers(page), []);
  await page.getByRole("link", { name: "← All Canaries" }).click();
  await page.locator("#partial").getByText("Without a token names").waitFor();
  for (const width of [360, 620, 900, 1024, 1100]) {
    await page.setViewportSize({ width, height: 700 });
    const overflow = await page.evaluate(() => document.scrollingElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(overflow, 0, `the list is wider than ${width} pixels`);
  }
  // Who thinks better of it, and whose token has ended, looks on without one.
  await page.getByRole("button", { name: "Enter a token" }).click();
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("link", { name: "shop/cart" }).waitFor();
  await page.getByRole("button", { name: "Enter a token" }).click();
  await page.getByRole("textbox", { name: "Token" }).fill("of yesterday");
  await page.keyboard.press("Enter");
  await page.getByText("the API server does not know this token").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0, "it is kept no longer");
  await page.getByRole("button", { name: "Look without a token" }).click();
  await page.getByRole("link", { name: "shop/cart" }).waitFor();
  assert.equal(tokens.at(-1), "");
  await page.getByRole("button", { name: "Enter a token" }).click();
  await page.getByRole("textbox", { name: "Token" }).fill("of ann");
  await page.keyboard.press("Enter");
  await page.getByText("a secret").waitFor();
  assert.ok(tokens[0] === "" && tokens.at(-1) === "Bearer of ann", tokens.join());
  assert.equal(await page.getByRole("button", { name: "Enter a token" }).isVisible(), false);
  assert.ok(!page.url().includes("ann"));
  assert.deepEqual([page.errors, page.foreign], [[], []]);
  await page.context().close();
});

test("an address that is no address opens the list", async () => {
  const page = await browser.open(`${dashboard.address}%E0%A4%A`);
  await page.getByRole("textbox", { name: "Token" }).waitFor();
  await page.goto(`${dashboard.origin}/#/%E0%A4%A/x`);
  await page.getByRole("textbox", { name: "Token" }).fill(dashboard.address.split("token=")[1]);
  await page.keyboard.press("Enter");
  await page.getByRole("link", { name: "shop/cart" }).waitFor();
  assert.deepEqual(page.errors, []);
  await page.context().close();
});
