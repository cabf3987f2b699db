// What readers of the page cost a controller with a thousand Canaries, fifty of them rolling out: the processor time and the memory of
// its process with ten readers and with none, by turns. A measurement and no test: tests/tools/page readers

import { spawn } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";

const [READERS, ROUNDS, SECONDS] = [10, 6, 10];
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

/** The measured process, and the addresses of its page and of its metrics. */
export async function controller() {
  const child = spawn(process.env.BENCH_PAGE, [], { stdio: ["pipe", "pipe", "inherit"] });
  const printed = String(await new Promise((go) => child.stdout.once("data", go)));
  const [page, metrics] = printed.trim().split(" ");
  return { child, page, metrics };
}

/** Seconds that all threads of a process ran, from the kernel's scheduler. */
function ran(pid) {
  const threads = readdirSync(`/proc/${pid}/task`);
  return threads.map((thread) => Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0])).reduce((a, b) => a + b, 0) / 1e9;
}

const memory = (pid) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) / 1024;

/** Reads as the page does, until it is told to stop; an answer that ends is followed by another one. */
async function read(address, query, signal, seen) {
  let cursor = "";
  while (!signal.aborted) {
    try {
      const answer = await fetch(`http://${address}/page/stream?since=${cursor}${query}`, { signal, headers: { "accept-encoding": "gzip" } });
      let rest = "";
      for await (const part of answer.body.pipeThrough(new TextDecoderStream())) {
        const lines = (rest + part).split("\n");
        rest = lines.pop();
        seen.lines += lines.length;
        for (const line of lines) cursor = /"cursor":"([^"]+)"/.exec(line)?.[1] ?? cursor;
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }
}

async function measure(pid) {
  const before = ran(pid);
  await pause(SECONDS * 1000);
  return { share: (100 * (ran(pid) - before)) / SECONDS, memory: memory(pid) };
}

async function main() {
  const { child, page } = await controller();
  const kinds = [["of the list", () => ""], ["each with a Canary open", (i) => `&namespace=team-${i}&name=service-${i}`]];
  const rows = [];
  const none = [];
  await pause(5000);
  for (const [name, query] of kinds) {
    const [some, more] = [[], []];
    for (let round = 0; round < ROUNDS; round += 1) {
      const alone = await measure(child.pid);
      none.push(alone.share);
      const stop = new AbortController();
      const seen = { lines: 0 };
      const readers = Array.from({ length: READERS }, (_, i) => read(page, query(i), stop.signal, seen));
      await pause(1000);
      const read_ = await measure(child.pid);
      stop.abort();
      await Promise.all(readers);
      if (seen.lines < READERS * SECONDS) throw new Error(`${seen.lines} lines are too few`);
      some.push(read_.share - alone.share);
      more.push(read_.memory - alone.memory);
      await pause(1000);
    }
    rows.push([name, some, more]);
  }
  const spread = (values) => `${median(values).toFixed(2)} (${Math.min(...values).toFixed(2)}–${Math.max(...values).toFixed(2)})`;
  console.log(`| ${READERS} readers of 1,000 Canaries, 50 of them rolling out | more of a processor, % | more memory, MiB |\n|---|---|---|`);
  for (const [name, some, more] of rows) console.log(`| ${name} | ${spread(some)} | ${spread(more)} |`);
  console.log(`\nMedian, least and most of ${ROUNDS} turns of ${SECONDS} s each with and without them; without, the 50 rollouts' view takes ${median(none).toFixed(2)} % of a processor.`);
  child.kill();
}

if (process.argv[1].endsWith("readers.mjs")) await main();
