// The page before an API that says whatever it wants: hostile, refusing, or with a thousand Canaries.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";

import { Browser, Dashboard, EXAMPLE, Said, api, barriers, picture, until } from "./stage.mjs";

/** What Weir says, as a test of the engine writes it. */
const SAID = JSON.parse(readFileSync(new URL("said.json", import.meta.url)));

let browser;

before(async () => {
  browser = await Browser.start();
});

after(() => browser?.end());

test("a hostile text in every place is shown as a text and does nothing", async () => {
  const attack = `<img src=x onerror="globalThis.hacked=1"><script>globalThis.hacked=1</script>"'><svg onload=globalThis.hacked=1>\u202egnp`;
  // Words that Weir itself chooses from stay; whatever anybody else may have written is an attack.
  const words = new Set(["phase", "severity", "result", "verdict", "state"]);
  const poisoned = (value, key) => {
    // A Canary is asked for by its name as the command line may show it: without what reorders a line.
    const own = key === "name" || key === "namespace" ? attack.replace("\u202egnp", "") : attack;
    if (typeof value === "string") return words.has(key) ? value : `${own}${value}`;
    if (Array.isArray(value)) return value.map((it) => poisoned(it, key));
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([name, it]) => [name, poisoned(it, name)]));
    return value;
  };
  const { state, answer } = api([poisoned({ ...EXAMPLE, stalled: false, run: "r" })], [403, { error: attack }]);
  state.problems = [attack];
  const said = await Said.of(answer);
  const dashboard = await Dashboard.of(said.address);
  try {
    const page = await browser.open(dashboard.address);
    await page.locator(".row a").click();
    await page.getByRole("region", { name: "Weight" }).waitFor();
    await page.getByRole("button", { name: "Pause" }).click();
    await until("refused", async () => (await page.getByRole("alert").allInnerTexts()).some((text) => text.includes("Pause was refused") && text.includes("<img src=x")));
    const text = await page.locator("body").innerText();
    assert.ok(text.includes(`<script>globalThis.hacked=1</script>`), "the text is shown as it is");
    assert.ok(!text.includes("\u202e"), "what reorders a line is left out");
    await page.locator("a.back").click();
    await page.locator(".problems").getByText("<img src=x").waitFor();
    assert.equal(await page.evaluate(() => globalThis.hacked), undefined);
    assert.equal(await page.locator("img:not([src='/icon.svg']), script:not([src='/page.mjs']), [onerror], [onload]").count(), 0);
    assert.deepEqual([page.errors, page.foreign], [[], []]);
    await page.context().close();
  } finally {
    dashboard.end();
    said.end();
  }
});

test("a verb that is refused is told with the reason, and the page goes on", async () => {
  const why = `canaries.weir.dev "cart" is forbidden: User "ann" cannot patch resource "canaries" in the namespace "shop"`;
  const { answer } = api([{ ...EXAMPLE, stalled: false }], [403, { error: why }]);
  const said = await Said.of(answer);
  const dashboard = await Dashboard.of(said.address);
  try {
    const page = await browser.open(dashboard.address);
    await page.locator(".row a").click();
    await page.getByRole("button", { name: "Promote" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Promote" }).click();
    await page.getByRole("alert").getByText(`Promote was refused: ${why}`).waitFor();
    assert.ok(await page.getByRole("button", { name: "Promote" }).isEnabled());
    await page.context().close();
  } finally {
    dashboard.end();
    said.end();
  }
});

test("a thousand Canaries that change every second are listed, filtered and drawn", async () => {
  // Ten need a person, fifty move, and all others rest.
  const names = ["cart", "checkout", "ledger", "search", "catalog", "login", "mail", "media", "orders", "prices"];
  const counted = (text) => {
    const [, failed, ended, ...primary] = /(\d+) of (\d+)\D.*primary (\d+) of (\d+)/.exec(text).map(Number);
    return { failed, ended, of: primary };
  };
  const person = [
    { phase: "Failed", reason: "GuardTripped", message: SAID.GuardTripped, ...counted(SAID.GuardTripped), weight: 0 },
    { phase: "WaitingPromotion", reason: "WaitingForGate", message: SAID.WaitingForGate, failed: 1, ended: 1912, weight: 50 },
    { phase: "Failed", reason: "EvidenceBad", message: SAID.EvidenceBad, ...counted(SAID.EvidenceBad), weight: 0 },
    { phase: "Progressing", reason: "Insufficient", message: SAID.Insufficient, failed: 0, ended: 3, weight: 1 },
  ];
  const one = (i) => {
    if (i % 100 === 7) return { ...person[Math.floor(i / 100) % 4], attention: "person", run: "" };
    if (i % 20 === 3) return { phase: "Progressing", reason: "Analysing", message: SAID.Analysing.replace(/\d+s/, `${1 + (i % 9)}s`), failed: i % 3, ended: 400 + 7 * i, weight: [5, 10, 20, 50][i % 4], run: "r", step: { number: 1 + (i % 4), of: 4 } };
    return { phase: i % 4 ? "Succeeded" : "Initialized", reason: "UpToDate", message: "", failed: 0, ended: 0, weight: 0, run: "" };
  };
  const views = Array.from({ length: 1000 }, (_, i) => {
    const { failed, ended, of = [Math.floor(failed / 3), 9 * ended], ...rest } = one(i);
    const step = rest.step;
    return { ...EXAMPLE, ...rest, step, namespace: `team-${i % 20}`, name: `${names[i % 10]}-${String(i).padStart(3, "0")}`, stalled: false, canary: { ...EXAMPLE.canary, failed, ended }, primary: { ...EXAMPLE.primary, failed: of[0], ended: of[1] }, since: Date.now() - 60_000 * i };
  });
  const { state, answer } = api(views);
  const moving = views.filter((view) => view.run);
  const clock = setInterval(() => {
    state.number += 1;
    for (const view of moving) {
      view.number = state.number;
      view.canary = { ...view.canary, ended: view.canary.ended + 10 };
    }
  }, 1000);
  const said = await Said.of(answer);
  const dashboard = await Dashboard.of(said.address);
  try {
    const page = await browser.open(dashboard.address);
    await page.getByRole("button", { name: "At rest: 940" }).waitFor();
    await page.getByRole("button", { name: "Moving: 50" }).waitFor();
    assert.equal(await page.locator(".row").count(), 1000);
    assert.equal(await page.locator(".row").first().getAttribute("data-attention"), "person");
    const fails = page.locator(".row[data-attention=moving] .fails").first();
    const before = await fails.innerText();
    await until("counted on", async () => (await fails.innerText()) !== before);
    await page.getByRole("searchbox", { name: "Filter" }).fill("team-3 progressing");
    await until("filtered", async () => (await page.locator(".row").count()) === 50);
    // A row that moves keeps the focus.
    await page.keyboard.press("ArrowDown");
    const focused = () => page.evaluate(() => document.activeElement.textContent);
    const name = await focused();
    const shown = await fails.innerText();
    await until("counted on", async () => (await fails.innerText()) !== shown);
    assert.equal(await focused(), name);
    // Of a thousand rows that differ in nothing but numbers some are enough.
    assert.deepEqual(await barriers(page), []);
    await page.getByRole("searchbox", { name: "Filter" }).fill("");
    await until("unfiltered", async () => (await page.locator(".row").count()) === 1000);
    await page.evaluate(() => document.activeElement.blur());
    await picture(page, "dashboard-list");
    const dark = await browser.open(dashboard.address, { scheme: "dark" });
    await dark.getByRole("button", { name: "Moving: 50" }).waitFor();
    assert.deepEqual((await barriers(dark)).filter((it) => it.startsWith("color-contrast")), []);
    assert.deepEqual([page.errors, dark.errors], [[], []]);
    await dark.context().close();
    await page.context().close();
  } finally {
    clearInterval(clock);
    dashboard.end();
    said.end();
  }
});
