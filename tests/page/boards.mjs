// How long a Prometheus takes for the queries of Grafana's boards, with a thousand Canaries of which fifty roll out. It scrapes a real
// controller's metrics every five seconds; each query is sent as Grafana does, over as many points. A measurement and no test:
// tests/tools/page boards [SECONDS]

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

import { controller } from "./readers.mjs";

const [EVERY, ROUNDS] = [5, 5];
const seconds = Number(process.argv[2] ?? 600);
const folder = mkdtempSync(join(tmpdir(), "weir-boards-"));
const address = "127.0.0.1:19390";
const { child, metrics } = await controller();
const config = { global: { scrape_interval: `${EVERY}s`, scrape_timeout: `${EVERY}s` }, scrape_configs: [{ job_name: "weir", static_configs: [{ targets: [metrics] }] }] };
writeFileSync(join(folder, "prometheus.yml"), JSON.stringify(config));
const prometheus = spawn(process.env.PROMETHEUS, [`--config.file=${folder}/prometheus.yml`, `--storage.tsdb.path=${folder}/data`, `--web.listen-address=${address}`], { stdio: "ignore" });
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const ask = async (path) => (await (await fetch(`http://${address}/api/v1/${path}`)).json()).data;

try {
  const text = await (await fetch(`http://${metrics}/metrics`)).text();
  await pause(seconds * 1000);
  const series = (await ask(`query?query=${encodeURIComponent('scrape_samples_scraped{job="weir"}')}`)).result[0].value[1];
  const took = (await ask(`query?query=${encodeURIComponent('max_over_time(scrape_duration_seconds{job="weir"}[5m])')}`)).result[0].value[1];
  console.log(`${series} series, ${(text.length / 2 ** 20).toFixed(1)} MiB; a scrape took ${(1000 * Number(took)).toFixed(0)} ms at most\n`);
  console.log("| board | queries | slowest query | its median, ms | all queries of the board, one after the other, ms |\n|---|---|---|---|---|");
  const boards = new URL("../../manifests/chart/dashboards/", import.meta.url);
  for (const file of readdirSync(boards)) {
    const board = JSON.parse(readFileSync(new URL(file, boards)));
    const times = new Map();
    for (let round = 0; round < ROUNDS; round += 1) {
      const end = Date.now() / 1000;
      for (const panel of board.panels) {
        for (const { expr, refId } of panel.targets ?? []) {
          // The board of all Canaries is of all namespaces; that of one is of one that rolls out.
          const query = expr.replaceAll("$__rate_interval", "20s").replaceAll("=~\"$namespace\"", "=~\".*\"").replaceAll("$namespace", "team-0").replaceAll("$canary", "service-0");
          const begun = performance.now();
          const { result } = await ask(`query_range?query=${encodeURIComponent(query)}&start=${end - seconds}&end=${end}&step=${EVERY}`);
          const name = `${panel.title} ${refId}`;
          times.set(name, [...(times.get(name) ?? []), performance.now() - begun]);
          if (round === 0 && process.env.VERBOSE) console.error(name, result.length, times.get(name)[0]);
        }
      }
    }
    const medians = [...times].map(([name, values]) => [name, median(values)]).sort((a, b) => b[1] - a[1]);
    const all = medians.map(([, value]) => value).reduce((a, b) => a + b, 0);
    console.log(`| ${board.title} | ${medians.length} | ${medians[0][0]} | ${medians[0][1].toFixed(0)} | ${all.toFixed(0)} |`);
  }
} finally {
  prometheus.kill();
  child.kill();
  await pause(1000);
  rmSync(folder, { recursive: true, force: true });
}
