// A rollout as lines over time: the weight, the failures of both arms, and how far it is to a verdict.

import { age, clamp, clock, count, h, percent, say, share, svg } from "./draw.mjs";

const [LEFT, TOP, HEIGHT, GAP] = [44, 22, 96, 38];
/** Where there is less room than this, the newest values stand above the lines and not beside them. */
const ROOMY = 620;

/** Each has its lines and the range that they are drawn in. */
const PLOTS = [
  { title: "weight %", unit: "%", top: (points) => nice(Math.max(10, ...points.map((p) => p.asked), ...points.map((p) => p.observed ?? 0))),
    lines: [["canary", "asked", (p) => p.asked, "step"], ["observed", "observed", (p) => p.observed]] },
  { title: "failed %", unit: "%", top: (points) => nice(Math.max(1, ...points.map((p) => rate(p.canary)), ...points.map((p) => rate(p.primary)))),
    lines: [["canary", "canary", (p) => rate(p.canary)], ["primary", "primary", (p) => rate(p.primary)]] },
  { title: "to a verdict %", unit: "%", top: () => 100,
    lines: [["bad", "to bad", (p) => 100 * clamp(p.bad)], ["good", "to good", (p) => 100 * clamp(p.good)]] },
];

const rate = ([failed, ended]) => (ended > 0 ? (100 * failed) / ended : 0);

/** The next round number: 1, 2, 5, 10, 20, 50, 100. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return Math.min(100, [1, 2, 5, 10].find((n) => n * power >= value) * power);
}

export class Chart {
  constructor() {
    this.drawing = h("div", { class: "chart" });
    this.note = h("p", { class: "faint" });
    this.at = h("p", { class: "at" });
    this.root = h("figure", { class: "plain" }, this.drawing, this.at, h("figcaption", {}, this.note));
    // One drawing, whatever is drawn in it: who has it under the pointer or the keyboard keeps it.
    // Arrows move along it and its value is read: a slider, to who cannot see it.
    this.svg = svg("svg", { tabindex: "0", role: "slider", "aria-label": "The rollout over time", "aria-valuemin": 0 });
    this.svg.addEventListener("pointermove", (event) => this.read(this.nearest(this.under(event))));
    this.svg.addEventListener("pointerleave", () => this.svg !== document.activeElement && this.read(undefined));
    this.svg.addEventListener("blur", () => this.read(undefined));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    this.clear();
    new ResizeObserver(() => this.points.length > 1 && this.width !== this.room() && this.draw()).observe(this.drawing);
  }

  /** As many units as there are pixels, so that what is written has the size of what is written elsewhere. */
  room() {
    return Math.max(260, Math.round(this.drawing.clientWidth || 900));
  }

  clear() {
    this.points = [];
    this.from = 0;
    this.cursor = undefined;
    this.drawing.replaceChildren();
    say(this.note, "");
    say(this.at, "");
  }

  show(history, started, run, fromStatus) {
    this.points = (history?.points ?? []).map((p) => ({ observed: undefined, ...p }));
    this.from = history?.from ?? 0;
    if (this.points.length < 2) {
      const none = fromStatus ? "The line is in the memory of the Weir that acts, which you may not ask." : run ? "The line begins with the next look."
        : "The replica of Weir that acts now has seen no rollout of it: lines are kept in its memory, and are gone with it.";
      this.drawing.replaceChildren(h("p", { class: "faint" }, none));
      say(this.note, "");
      say(this.at, "");
      return;
    }
    const late = run && started && this.from - started > 5000;
    say(this.note, `${count(this.points.length)} points${run !== history.run ? ", of the rollout before" : ""}. ${late ? `The rollout began ${age(this.from - started)} before this line: another replica of Weir acted then, and what it had seen is gone. ` : ""}Arrow keys or a pointer read the values.`);
    this.draw();
  }

  draw() {
    const last = this.points.at(-1).ms || 1;
    this.width = this.room();
    this.plotWidth = this.width - LEFT - (this.width < ROOMY ? 10 : 124);
    this.perUnit = last / this.plotWidth;
    const x = (ms) => this.x(ms);
    const total = TOP + PLOTS.length * (HEIGHT + GAP);
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${total}`);
    this.svg.setAttribute("aria-valuemax", this.points.length - 1);
    // Who reads with the keyboard is told of a moment when he asks for it, and not of each that comes.
    if (this.cursor === undefined && this.svg !== document.activeElement) this.tell(this.points.length - 1, this.summary());
    PLOTS.forEach((plot, i) => this.plot(plot, TOP + i * (HEIGHT + GAP), x));
    let written;
    for (const part of this.width < ROOMY ? [0, 0.5, 1] : [0, 0.25, 0.5, 0.75, 1]) {
      // The first seconds have several marks each.
      if (age(part * last) === written) continue;
      written = age(part * last);
      this.svg.append(svg("text", { x: x(part * last), y: total - GAP + 16, "text-anchor": part === 1 ? "end" : "middle" }, written));
    }
    this.line = svg("line", { class: "cursor", y1: TOP, y2: total - GAP });
    this.svg.append(this.line);
    if (this.svg.parentNode !== this.drawing) this.drawing.replaceChildren(this.svg);
    this.mark();
  }

  x(ms) {
    return LEFT + ms / this.perUnit;
  }

  /** When the pointer is, in milliseconds of the line. */
  under(event) {
    const box = this.svg.getBoundingClientRect();
    return (((event.clientX - box.left) / box.width) * this.width - LEFT) * this.perUnit;
  }

  nearest(ms) {
    const distance = (p) => Math.abs(p.ms - ms);
    return this.points.reduce((best, p, i) => (distance(p) < distance(this.points[best]) ? i : best), 0);
  }

  key(event) {
    const now = this.cursor === undefined ? this.points.length : this.nearest(this.cursor);
    const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: this.points.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.read(Math.min(this.points.length - 1, Math.max(0, to)));
  }

  plot({ title, unit, top, lines }, y0, x) {
    const range = top(this.points);
    const y = (value) => y0 + HEIGHT - (HEIGHT * Math.min(value, range)) / range;
    for (const part of [0, 0.5, 1]) {
      const value = part * range;
      this.svg.append(svg("line", { class: "grid", x1: LEFT, x2: LEFT + this.plotWidth, y1: y(value), y2: y(value) }), svg("text", { x: LEFT - 7, y: y(value) + 4, "text-anchor": "end" }, percent(value)));
    }
    const labels = [];
    for (const [name, label, of, kind] of lines) {
      const path = this.path(of, x, y, kind === "step");
      if (!path) continue;
      if (kind === "step") this.svg.append(svg("path", { class: "area", d: `${path}V${y(0)}H${x(0)}Z` }));
      this.svg.append(svg("path", { class: `line ${name}`, d: path }));
      const value = of(this.points.at(-1));
      labels.push([y(value ?? 0) + 4, value === undefined ? `${label} –` : `${label} ${percent(value)} ${unit}`, name]);
    }
    const roomy = this.width >= ROOMY;
    const values = roomy ? "" : `: ${labels.map((label) => label[1]).join(", ")}`;
    this.svg.append(svg("text", { class: "axis", x: LEFT, y: y0 - 7 }, title + values));
    if (!roomy) return;
    // Two that end at one height are written one below the other.
    labels.sort((a, b) => a[0] - b[0]);
    labels.forEach((label, i) => {
      if (i > 0) label[0] = Math.max(label[0], labels[i - 1][0] + 13);
      this.svg.append(svg("text", { x: LEFT + this.plotWidth + 8, y: label[0] }, label[1]));
    });
  }

  path(of, x, y, stepped) {
    let d = "";
    for (const p of this.points) {
      const value = of(p);
      if (value === undefined) continue;
      const [at, height] = [x(p.ms).toFixed(1), y(value).toFixed(1)];
      d += d === "" ? `M${at} ${height}` : stepped ? `H${at}V${height}` : `L${at} ${height}`;
    }
    return d;
  }

  /** Draws the line through the moment that is read. */
  mark() {
    const at = this.cursor === undefined ? undefined : this.x(this.cursor);
    this.line.setAttribute("visibility", at === undefined ? "hidden" : "visible");
    for (const end of at === undefined ? [] : ["x1", "x2"]) this.line.setAttribute(end, at);
  }

  /** Reads the values of one moment. */
  read(index) {
    const p = this.points[index];
    this.cursor = p?.ms;
    if (this.line) this.mark();
    if (!p) {
      if (this.points.length > 1) this.tell(this.points.length - 1, this.summary());
      return this.at.replaceChildren();
    }
    const of = ([failed, ended]) => `${count(failed)} of ${count(ended)} failed (${share(failed, ended)})`;
    this.at.replaceChildren(h("b", {}, `${age(p.ms)}, `), clock(this.from + p.ms), `: asked ${percent(p.asked)} %${p.observed === undefined ? "" : `, observed ${percent(p.observed)} %`}; canary ${of(p.canary)}; primary ${of(p.primary)}; to bad ${Math.round(100 * clamp(p.bad))} %, to good ${Math.round(100 * clamp(p.good))} % of the way`);
    this.tell(index, this.at.textContent);
    return undefined;
  }

  /** What is read of it at a moment. */
  tell(index, text) {
    this.svg.setAttribute("aria-valuenow", index);
    this.svg.setAttribute("aria-valuetext", text);
  }

  summary() {
    const p = this.points.at(-1);
    return `Lines over ${age(p.ms)}: weight ${percent(p.asked)} percent now, canary failed ${p.canary[0]} of ${p.canary[1]}, primary ${p.primary[0]} of ${p.primary[1]}. Arrow keys read the values.`;
  }
}
