// What a page of a thousand Canaries costs who opens it: bytes, the first paint, and the time from a change to the page. A measurement
// and no test: tests/tools/page bench

import { Browser, Dashboard, Said, pause, until } from "./stage.mjs";

const ROUNDS = 5;
const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

const state = { number: 1, weight: 0, changed: 0 };
const items = (since) => Array.from({ length: 1000 }, (_, i) => ({
  namespace: `team-${i % 20}`, name: `service-${i}`, phase: i < 50 ? "Progressing" : "Succeeded", since: 1_790_000_000_000,
  ...(i < 50 ? { attention: "moving", reason: "Analysing", message: "next check in 5s", weight: i === 0 ? state.weight : 20, canary: [1, 1000], primary: [3, 9000] } : {}),
})).filter((_, i) => since === 0 || (i === 0 && state.number > since));
const said = await Said.of(async (_, { searchParams }) => {
  const since = Number((searchParams.get("since") || "-0").split("-")[1]);
  // As Weir does: what is new is told when it is.
  const until = Date.now() + 1000 * Number(searchParams.get("wait"));
  while (since === state.number && Date.now() < until) await pause(5);
  return [200, { cursor: `1-${state.number}`, whole: since === 0, items: items(since), gone: [], problems: [] }];
});
const dashboard = await Dashboard.of(said.address);
const browser = await Browser.start();
const [paints, bytes, delays] = [[], [], []];
for (let round = 0; round < ROUNDS; round += 1) {
  const page = await browser.open("about:blank");
  let sent = 0;
  const network = await page.context().newCDPSession(page);
  await network.send("Network.enable");
  // As it comes over the network, packed.
  network.on("Network.dataReceived", (event) => (sent += event.encodedDataLength));
  await page.goto(dashboard.address);
  await page.locator(".row").first().waitFor();
  bytes.push(sent);
  paints.push(await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0));
  await page.getByRole("button", { name: "At rest: 950" }).waitFor();
  state.weight = 30 + round;
  state.number += 1;
  const changed = performance.now();
  await until("shown", async () => (await page.locator(".row[data-attention=moving] .bartext").first().innerText()).includes(`${state.weight} %`));
  delays.push(performance.now() - changed);
  await page.context().close();
}
console.log(`a page of 1,000 Canaries, 50 of them moving; median of ${ROUNDS}:`);
console.log(`  sent until the first row is there   ${Math.round(median(bytes) / 1024)} KiB`);
console.log(`  first contentful paint              ${Math.round(median(paints))} ms`);
console.log(`  from a change to the page           ${Math.round(median(delays))} ms`);
await browser.end();
dashboard.end();
said.end();
