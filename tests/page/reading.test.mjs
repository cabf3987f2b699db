// The page for who reads it slowly, by ear, without a mouse or in colours of his own: what is said, kept in its place, and left alone.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Browser, Dashboard, EXAMPLE, Said, api, until } from "./stage.mjs";

let browser;

before(async () => {
  browser = await Browser.start();
});

after(() => browser?.end());

const resting = (name, more = {}) => ({
  ...EXAMPLE, namespace: "shop", name, phase: "Succeeded", reason: "UpToDate", message: "", run: "", stalled: false, paused: false, weight: 0, step: undefined, evidence: undefined,
  canary: { ...EXAMPLE.canary, failed: 0, ended: 0 }, primary: { ...EXAMPLE.primary, failed: 0, ended: 0 }, ended: undefined, last: undefined, ...more,
});
const moving = (name, more = {}) => resting(name, { phase: "Progressing", reason: "Analysing", message: "next check in 9s", run: "r", weight: 10, step: { number: 1, of: 3 }, ...more });
const failed = { phase: "Failed", reason: "GuardTripped", message: "the guard stopped the canary", run: "" };

/** A page on these Canaries; `change(name, more)` changes one of them. */
async function page(views, hear, options) {
  const { state, answer } = api(views);
  const said = await Said.of(answer);
  const dashboard = await Dashboard.of(said.address);
  const change = (name, more) => {
    state.number += 1;
    Object.assign(state.views.find((view) => view.name === name), more, { number: state.number });
  };
  try {
    const shown = await browser.open(dashboard.address, options);
    await shown.getByRole("link", { name: `shop/${views[0].name}` }).waitFor();
    await hear(shown, change, state);
    assert.deepEqual([shown.errors, shown.foreign], [[], []]);
    await shown.context().close();
  } finally {
    dashboard.end();
    said.end();
  }
}

const focused = (shown) => shown.evaluate(() => document.activeElement.textContent);
const row = (shown, name) => shown.locator(".row", { hasText: `shop/${name}` });

test("what cannot work is shown as stalled, and failures by a sign and words beside their colour", () =>
  page([
    resting("broken", { stalled: true, reason: "InvalidSpec", message: "spec.analysis: no such field", attention: "person" }),
    moving("worse", { canary: { ...EXAMPLE.canary, failed: 4, ended: 19 }, primary: { ...EXAMPLE.primary, failed: 1, ended: 10_000 } }),
    moving("equal", { canary: { ...EXAMPLE.canary, failed: 1, ended: 1000 }, primary: { ...EXAMPLE.primary, failed: 10, ended: 10_000 } }),
  ], async (shown) => {
    assert.match(await row(shown, "broken").locator(".tag").innerText(), /^✖\s*Stalled$/);
    assert.equal(await row(shown, "worse").locator(".fails").innerText(), "⚠ 4 of 19 failed (21.1\u00a0%; primary 0.010\u00a0%)");
    assert.equal(await row(shown, "equal").locator(".fails").innerText(), "1 of 1,000 failed (0.100\u00a0%)");
  }));

test("a row keeps the focus while others leave its group, and while it goes to another group itself", () =>
  page(["a", "b", "c", "d"].map((name) => moving(name)), async (shown, change) => {
    const moved = (name, group) => until(`${name} is moved`, async () => (await row(shown, name).getAttribute("data-attention")) === group);
    for (let i = 0; i < 3; i += 1) await shown.keyboard.press("ArrowDown");
    assert.equal(await focused(shown), "shop/c");
    change("a", resting("a"));
    await moved("a", "resting");
    assert.equal(await focused(shown), "shop/c");
    change("b", failed);
    await moved("b", "person");
    assert.equal(await focused(shown), "shop/c");
    change("c", failed);
    await moved("c", "person");
    assert.equal(await focused(shown), "shop/c");
    assert.deepEqual(await shown.locator(".row .name").allInnerTexts(), ["shop/b", "shop/c", "shop/d", "shop/a"]);
  }));

test("a Canary that comes to need a person is told, and counted in the title", () =>
  page([moving("cart"), moving("search"), resting("old", { ...failed })], async (shown, change) => {
    await until("counted", async () => (await shown.title()) === "(1) Weir");
    const news = () => shown.locator("#news").innerText();
    assert.equal(await news(), "", "what was so before is no news");
    change("cart", failed);
    await until("told", async () => (await news()) === "shop/cart needs a person");
    assert.equal(await shown.title(), "(2) Weir");
    await shown.getByRole("link", { name: "shop/cart" }).click();
    await until("titled", async () => (await shown.title()) === "(2) cart · Weir");
    change("search", failed);
    await until("told after a while", async () => (await news()).includes("shop/search needs a person"));
  }));

test("what to do stays under the eyes of who reads it or has marked it, while the reason counts down", () =>
  page([moving("cart", { advice: "wait; `weir pause -n shop cart` holds it" })], async (shown, change) => {
    await shown.getByRole("link", { name: "shop/cart" }).click();
    const why = shown.getByRole("region", { name: "Why, and what to do" });
    assert.equal(await why.locator("code").innerText(), "weir pause -n shop cart", "a command is marked as one");
    await why.evaluate((card) => getSelection().selectAllChildren(card));
    const marked = () => shown.evaluate(() => getSelection().toString());
    assert.match(await marked(), /next check in 9s/);
    change("cart", { message: "next check in 8s" });
    await why.getByText("next check in 8s").waitFor();
    assert.match(await marked(), /What to do: wait; weir pause -n shop cart holds it/);
  }));

test("the buttons are what does something where a Canary stands", () =>
  page([moving("cart")], async (shown, change) => {
    await shown.getByRole("link", { name: "shop/cart" }).click();
    const buttons = () => shown.locator(".head .actions button:visible").allInnerTexts();
    for (const [view, expected] of [
      [moving("cart"), ["Pause", "Promote", "Take back"]],
      [moving("cart", { paused: true }), ["Resume", "Promote", "Take back"]],
      [moving("cart", { phase: "Promoting" }), ["Take back"]],
      [moving("cart", { phase: "Finalising" }), []],
      [resting("cart", failed), ["Retry"]],
      [resting("cart", { ...failed, paused: true }), ["Resume", "Retry"]],
      [resting("cart", { ...failed, run: "r", weight: 100 }), []],
      [resting("cart", { stalled: true, paused: true }), []],
    ]) {
      change("cart", view);
      await until(`${view.phase} has ${expected}`, async () => (await buttons()).join() === expected.join());
    }
  }));

test("the lines of a rollout are read without eyes, and say where nothing was observed", () => {
  const points = [0, 400, 900].map((ms) => ({ ms, asked: 10, canary: [0, 0], primary: [0, 0], bad: 0, good: 0 }));
  points[1].observed = 9;
  return page([moving("cart", { history: { run: "r", from: Date.now(), points } })], async (shown) => {
    await shown.getByRole("link", { name: "shop/cart" }).click();
    const lines = shown.getByRole("slider", { name: "The rollout over time" });
    await lines.focus();
    assert.match(await lines.getAttribute("aria-valuetext"), /^Lines over 0s/);
    await shown.keyboard.press("Home");
    assert.deepEqual([await lines.getAttribute("aria-valuenow"), await lines.getAttribute("aria-valuemax")], ["0", "2"]);
    assert.match(await lines.getAttribute("aria-valuetext"), /asked 10 %; canary 0 of 0 failed/);
    const texts = await lines.locator("text").allTextContents();
    assert.ok(texts.includes("observed –") && !texts.includes("observed 0 %"), texts.join(" | "));
    assert.equal(texts.filter((text) => text === "0s").length, 1, "one mark for one time");
  });
});

test("a time has its date from midnight on, and a picture of several parts stays one", () => {
  const events = [{ at: Date.now(), severity: "info", reason: "Advanced", text: "by 👩\u200d🔧, ca\u200drt" }];
  return page([moving("cart", { events })], async (shown) => {
    await shown.getByRole("link", { name: "shop/cart" }).click();
    const list = shown.getByRole("list", { name: "Events, newest first" });
    const year = String(new Date().getFullYear());
    assert.ok(!(await list.innerText()).includes(year));
    assert.ok((await list.innerText()).includes("by 👩\u200d🔧, ca\ufffdrt"));
    await shown.evaluate(() => {
      const Real = Date;
      globalThis.Date = class extends Real {
        constructor(...of) {
          super(...(of.length ? of : [Real.now() + 86_400_000]));
        }
      };
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await until("dated", async () => (await list.locator("time").innerText()).includes(year));
  });
});

test("keys of one letter can be turned off, and stay so", () =>
  page([moving("cart")], async (shown) => {
    const find = () => shown.evaluate(() => document.activeElement.id === "find");
    const keys = shown.getByRole("button", { name: "Keys / j k" });
    await keys.click();
    await shown.keyboard.press("/");
    await shown.keyboard.press("j");
    assert.ok(await keys.evaluate((button) => button === document.activeElement));
    await shown.reload();
    assert.equal(await keys.getAttribute("aria-pressed"), "false");
    await keys.click();
    await shown.keyboard.press("/");
    assert.ok(await find());
  }));

test("bars are seen in a reader's own colours", () =>
  page([moving("cart")], async (shown) => {
    const ground = (selector) => shown.locator(selector).first().evaluate((part) => getComputedStyle(part).backgroundColor);
    assert.notEqual(await ground(".meter > i"), await ground(".meter"));
    await shown.getByRole("link", { name: "shop/cart" }).click();
    await shown.locator(".split .applied").waitFor();
    assert.notEqual(await ground(".split > .applied"), await ground(".split"));
  }, { forcedColors: "active" }));

test("what is kept from who looks is said to be", () =>
  page([resting("cart", { phase: "Failed", reason: "", restricted: true, attention: "resting" })], async (shown) => {
    assert.equal(await row(shown, "cart").locator(".said").innerText(), "why is shown to who may get the Canaries of its namespace");
  }));
