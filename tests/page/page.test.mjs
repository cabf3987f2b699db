// The page as people use it, in a real browser: what it shows is what the API says, through real rollouts.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Browser, Dashboard, Site, barriers, picture, until } from "./stage.mjs";

let browser;
let site;
let dashboard;

before(async () => {
  browser = await Browser.start();
  site = await Site.serving();
  site.load();
  dashboard = await Dashboard.of(site.http);
});

after(async () => {
  dashboard?.end();
  await site?.end();
  await browser?.end();
});

const card = (page, title) => page.getByRole("region", { name: title, exact: true });
const status = async (page) => (await page.locator("#detail .head .tag").innerText()).replace(/^\S+\s*/, "");
const canary = async (page) => {
  await page.getByRole("link", { name: "default/shop" }).click();
  await page.getByRole("heading", { level: 1, name: "default/shop" }).waitFor();
  await card(page, "Weight").waitFor();
};
const count = (n) => n.toLocaleString("en-US");

/** Compares everything that stands still between two looks of the page with the API's JSON. */
async function assertShown(page, view) {
  assert.equal(await status(page), view.phase);
  const text = async (title) => (await card(page, title).innerText()).replaceAll(/\s+/g, " ");
  const why = await text("Why, and what to do");
  assert.ok(why.includes(`${view.reason}: ${view.message}`), why);
  assert.ok(why.includes(view.advice.replaceAll("`", "")), why);
  const arms = await text(view.run ? "Requests of this rollout" : view.ended ? "Requests of the rollout before" : "Requests");
  const seen = view.run ? view : (view.last ?? view);
  for (const arm of ["primary", "canary"]) {
    assert.ok(arms.includes(view[arm].readiness), arms);
    assert.ok(arms.includes(`${count(seen[arm].requests)}, ${count(seen[arm].ended)} ended`), arms);
    if (seen[arm].revision) assert.ok(arms.includes(seen[arm].revision.slice(0, 8)), arms);
  }
  assert.equal(await card(page, "Steps").getByRole("list", { name: "Steps" }).locator("> li").count(), view.steps.length);
  const gateways = await text("Gateways and callers");
  for (const gateway of view.gateways) assert.ok(gateways.includes(gateway.name) && gateways.includes("✔ acknowledged"), gateways);
  const checks = await text("Checks");
  for (const metric of view.metrics) assert.ok(checks.includes(metric.name), checks);
  const events = await text("Events");
  for (const event of view.events) assert.ok(events.includes(event.text.replaceAll(/\s+/g, " ")), `${event.text}\n${events}`);
  const past = await text("Last rollouts");
  for (const rollout of view.rollouts) assert.ok(past.includes(`${count(rollout.canaryFailed)} of ${count(rollout.canaryEnded)}`), past);
}

test("a good release is seen from its first weight to its promotion, as the API tells it", async () => {
  const page = await browser.open(dashboard.address);
  await page.getByRole("link", { name: "default/shop" }).waitFor();
  assert.ok(!page.url().includes("token"), "the token is in the address no more");
  const resting = page.getByRole("button", { name: "At rest: 1" });
  await resting.waitFor();
  await canary(page);
  site.release("v2", "", { interval: "6s" });
  const asked = card(page, "Weight").locator("[data-kind=asked]");
  const seen = new Set();
  await until("promoted", async () => {
    seen.add((await asked.innerText()).replace(/^┃\s*/, ""));
    return (await status(page)) === "Succeeded";
  });
  for (const weight of ["asked 10 %", "asked 30 %", "asked 50 %"]) assert.ok(seen.has(weight), [...seen].join(", "));
  await until("at rest", async () => (await site.canary()).run === "");
  const view = await site.canary();
  // Its pods go after it.
  await until("shown as it ended", async () => {
    await assertShown(page, await site.canary());
    return true;
  });
  assert.equal(view.rollouts.length, 1);
  assert.ok(view.history.points.length > 5);
  await page.getByRole("slider", { name: "The rollout over time" }).waitFor();
  assert.deepEqual([page.errors, page.foreign], [[], []]);
  await page.context().close();
});

test("a bad release is seen to be taken back, with why, and stands before all others", async () => {
  const page = await browser.open(dashboard.address, { height: 1500 });
  await canary(page);
  const evidence = card(page, "How far it is to a verdict");
  // Bad enough to be taken back, and slow enough to be looked at.
  site.release("v3", "--failure-ratio 0.04");
  await until("under way", async () => (await site.canary()).phase === "Progressing");
  await evidence.getByText("Guard:").waitFor();
  await until("failing for some time", async () => {
    const { canary, history, phase } = await site.canary();
    return phase === "Failed" || (canary.failed > 1 && history.points.length > 8);
  });
  await until("drawn", async () => (await page.locator(".chart path").count()) > 0);
  await picture(page, "dashboard-canary", { fullPage: true });
  await until("taken back", async () => (await status(page)) === "Failed" && (await site.canary()).run === "");
  const view = await site.canary();
  // Its pods go after it.
  await until("shown as it ended", async () => {
    await assertShown(page, await site.canary());
    return true;
  });
  assert.equal(view.phase, "Failed");
  const why = await card(page, "Why, and what to do").innerText();
  assert.ok(why.includes(view.ended.message), why);
  assert.equal(view.rollouts.at(-1).result, "rolledback");
  // What it was decided on stays in sight: its numbers, evidence and last values, and no other ones.
  const { ended } = view;
  const words = async (title) => (await card(page, title).innerText()).replaceAll(/\s+/g, " ");
  const arms = await words("Requests of the rollout before");
  assert.deepEqual([view.canary.ended, view.canary.failed, view.primary.ended], [ended.canaryEnded, ended.canaryFailed, ended.primaryEnded]);
  assert.ok(arms.includes(`${count(ended.canaryEnded)} ended`) && arms.includes(`⚠ ${count(ended.canaryFailed)} (`), arms);
  assert.match(await words("How far it is to a verdict"), /Of the rollout before, when it was decided: (bad|insufficient)/);
  assert.match(await words("Checks"), /Last values of the rollout before\..* request-success-rate [\d.]+ %/);
  await picture(page, "dashboard-taken-back", { fullPage: true });
  await page.getByRole("link", { name: "← All Canaries" }).click();
  await page.getByRole("button", { name: "Needs a person: 1" }).waitFor();
  await page.getByRole("heading", { name: "Needs a person" }).waitFor();
  assert.deepEqual([page.errors, page.foreign], [[], []]);
  await page.context().close();
});

test("what somebody reads stays in its place, and so does the focus, while the numbers move", async () => {
  // Long enough for a machine that is busy.
  site.release("v3-read", "", { interval: "6s" });
  await until("under way", async () => (await site.canary()).phase === "Progressing");
  const page = await browser.open(dashboard.address, { width: 360, height: 740, mobile: true });
  await page.getByRole("link", { name: "default/shop" }).waitFor();
  await page.keyboard.press("ArrowDown");
  await until("in the list", () => page.evaluate(() => document.activeElement.textContent === "default/shop"));
  await page.keyboard.press("Enter");
  const steps = card(page, "Steps");
  await steps.getByRole("list", { name: "Steps" }).evaluate((list) => {
    list.focus();
    list.scrollLeft = 40;
  });
  const said = await steps.innerText();
  await until("it waits for something else", async () => (await steps.innerText()) !== said);
  const place = await page.evaluate(() => [document.activeElement.ariaLabel, document.activeElement.scrollLeft]);
  assert.deepEqual(place, ["Steps", 40]);
  const lines = page.locator(".chart svg");
  await lines.focus();
  await page.keyboard.press("Home");
  const moment = await page.locator(".at").innerText();
  const [drawn, label] = [await lines.innerHTML(), await lines.getAttribute("aria-valuetext")];
  assert.equal(label, moment, "what is read is what is seen");
  await until("drawn anew", async () => (await lines.innerHTML()) !== drawn);
  assert.ok(await lines.evaluate((drawing) => drawing === document.activeElement));
  assert.deepEqual([await page.locator(".at").innerText(), await lines.getAttribute("aria-valuetext")], [moment, label]);
  await page.getByRole("link", { name: "← All Canaries" }).focus();
  assert.equal(await page.locator(".at").innerText(), "");
  await until("promoted", async () => (await status(page)) === "Succeeded" && (await site.canary()).run === "");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("a release is taken back with the keyboard alone", async () => {
  site.release("v4", "", { interval: "30s" });
  await until("under way", async () => (await site.canary()).phase === "Progressing");
  const page = await browser.open(dashboard.address);
  await page.getByRole("link", { name: "default/shop" }).waitFor();
  const focused = () => page.evaluate(() => document.activeElement.textContent || document.activeElement.getAttribute("aria-label"));
  const tabTo = (name) => until(`focused ${name}`, async () => {
    await page.keyboard.press("Tab");
    return (await focused()) === name;
  });
  await page.keyboard.press("/");
  assert.equal(await page.evaluate(() => document.activeElement.id), "find");
  await page.keyboard.type("shop");
  await page.keyboard.press("ArrowDown");
  assert.equal(await focused(), "default/shop");
  await page.keyboard.press("Enter");
  await card(page, "Weight").waitFor();
  await until("pausable", () => page.getByRole("button", { name: "Pause" }).isVisible());
  await tabTo("Pause");
  await page.keyboard.press("Enter");
  await until("paused", async () => (await site.canary()).paused);
  await page.getByRole("button", { name: "Resume" }).waitFor();
  await tabTo("Take back");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog", { name: "Take the canary back?" }).waitFor();
  assert.equal(await focused(), "Leave it", "what is begun by accident ends by accident");
  await page.keyboard.press("Escape");
  assert.equal((await site.canary()).phase, "Progressing");
  await tabTo("Take back");
  await page.keyboard.press("Enter");
  await tabTo("Take back");
  await page.keyboard.press("Enter");
  await until("taken back", async () => (await site.canary()).ended?.reason === "Aborted");
  await until("shown", async () => (await status(page)).startsWith("Failed"));
  await until("told", async () => (await page.locator("#news").innerText()).includes("Failed"));
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: /^Needs a person/ }).waitFor();
  await until("where it was left", async () => (await focused()) === "default/shop");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("a connection that is lost is told with the age of what is seen, and is found again", async () => {
  const page = await browser.open(dashboard.address);
  const open = await browser.open(dashboard.address);
  await canary(open);
  await page.getByText("live", { exact: true }).waitFor();
  await site.kill();
  await page.getByText("connection lost").waitFor();
  const banner = page.locator("#stale");
  await until("aged", async () => /What you see is \d+s old: .*cannot be reached/.test(await banner.innerText()));
  assert.ok(await page.getByRole("link", { name: "default/shop" }).isVisible(), "what was seen stays");
  site.start();
  await page.getByText("live", { exact: true }).waitFor();
  assert.ok(await banner.isHidden());
  // A Weir that has just begun has looked at no Canary yet, and none is gone.
  await open.getByText("live", { exact: true }).waitFor();
  assert.equal(await open.locator("#news").innerText(), "");
  assert.ok(await card(open, "Weight").isVisible());
  await open.context().close();
  // A cut network: the connection is there, and nobody says anything.
  dashboard.signal("SIGSTOP");
  await page.getByText("connection lost").waitFor();
  await until("aged", async () => /What you see is \d+s old: nobody answers/.test(await banner.innerText()));
  dashboard.signal("SIGCONT");
  await page.getByText("live", { exact: true }).waitFor();
  await page.context().close();
});

test("who has no token is let in by typing it, and by no other", async () => {
  const page = await browser.open(`${dashboard.origin}/`);
  const entry = page.getByRole("textbox", { name: "Token" });
  await entry.fill("guessed");
  await entry.press("Enter");
  await page.getByText("the token is another one").waitFor();
  assert.equal(await page.getByRole("link", { name: "default/shop" }).count(), 0);
  await entry.fill(dashboard.address.split("token=")[1]);
  await entry.press("Enter");
  await page.getByRole("link", { name: "default/shop" }).waitFor();
  await page.context().close();
});

test("nothing is in the way of who sees badly, or uses a phone", async () => {
  for (const scheme of ["light", "dark"]) {
    const page = await browser.open(dashboard.address, { width: 360, height: 740, scheme, mobile: true });
    await page.getByRole("link", { name: "default/shop" }).waitFor();
    const overflow = () => page.evaluate(() => document.scrollingElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(await overflow(), 0, `${scheme}: the list is wider than the phone`);
    assert.deepEqual(await barriers(page), [], `${scheme}: the list`);
    await canary(page);
    assert.equal(await overflow(), 0, `${scheme}: a Canary is wider than the phone`);
    assert.deepEqual(await barriers(page), [], `${scheme}: a Canary`);
    if (scheme === "dark") await picture(page, "dashboard-phone");
    assert.deepEqual(page.errors, []);
    await page.context().close();
  }
});
