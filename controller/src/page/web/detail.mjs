// One Canary in full.

import { Chart } from "./chart.mjs";
import { age, clock, count, evidence, h, meter, percent, printable, quantile, say, several, share, short, standing, tag, theirs, update, weight, withCommands } from "./draw.mjs";
import { ask } from "./feed.mjs";

/** Verbs, what their buttons say, and what is asked before the ones that cannot be taken back. */
const VERBS = {
  pause: { text: "Pause" },
  resume: { text: "Resume" },
  promote: { text: "Promote", sure: "Promote now?", what: "The checks and gates that are left are skipped, and this revision goes to production." },
  abort: { text: "Take back", sure: "Take the canary back?", what: "All requests go to the primary at once, and this revision counts as failed until it is retried or another one comes.", danger: true },
  retry: { text: "Retry" },
};

const ROLLING = ["Waiting", "Progressing", "WaitingPromotion"];

/** Which verbs mean something now: the engine ignores all others. */
function possible(view) {
  if (view.stalled) return [];
  const resume = view.paused ? ["resume"] : [];
  if (ROLLING.includes(view.phase)) return [...(view.paused ? resume : ["pause"]), "promote", "abort"];
  if (view.phase === "Promoting") return [...resume, "abort"];
  // A canary that serves in the primary's place is not retried.
  const serves = view.run && (view.weight > 0 || view.reason === "PromotionFailed");
  return view.phase === "Failed" && !serves ? ["retry", ...resume] : resume;
}

export class Detail {
  /** `time` has what time it is, `news` tells who cannot see, `refuse` shows why a verb was not obeyed. */
  constructor(root, time, news, refuse) {
    Object.assign(this, { time, news, refuse, wanted: undefined, view: undefined, told: undefined });
    const card = (title, wide, body) => {
      const id = `card-${title.toLowerCase().replaceAll(/[^a-z]+/g, "-")}`;
      return h("section", { class: `card${wide ? " wide" : ""}`, "aria-labelledby": id }, h("h2", { id }, title), body);
    };
    this.title = h("h1", { id: "detail-heading", tabindex: "-1" });
    this.state = h("span");
    this.since = h("span", { class: "faint" });
    this.buttons = new Map(Object.keys(VERBS).map((verb) => [verb, this.button(verb)]));
    const part = () => h("div");
    Object.assign(this, { why: h("div", { class: "text" }), split: part(), arms: part(), ways: part(), guard: part(), steps: part(), gateways: part(), metrics: part(), webhooks: part(), events: part(), past: part() });
    // What counts down each second is said in its place, beside what somebody may be reading or have marked.
    this.cause = h("p", { class: "lead" });
    this.reason = h("b");
    this.message = h("bdi");
    this.advice = h("p", { class: "do" });
    this.because = h("p", {}, this.reason, ": ", this.message);
    this.why.append(this.cause, this.because, this.advice);
    this.whyCard = h("section", { class: "card wide why", "aria-label": "Why, and what to do" }, this.why);
    this.chart = new Chart();
    this.absent = h("p", { class: "card empty", hidden: true });
    this.armsCard = card("Requests", false, this.arms);
    this.cards = h("div", { class: "cards" },
      this.whyCard,
      card("Weight", true, this.split),
      this.armsCard,
      card("How far it is to a verdict", false, h("div", { class: "ways" }, this.ways, this.guard)),
      card("Steps", true, this.steps),
      card("The rollout over time", true, this.chart.root),
      card("Gateways and callers", false, this.gateways),
      card("Checks", false, h("div", {}, this.metrics, this.webhooks)),
      card("Events", false, this.events),
      card("Last rollouts", false, this.past),
    );
    root.append(
      h("a", { href: "#/", class: "back" }, "← All Canaries"),
      h("div", { class: "head" }, this.title, this.state, this.since, h("div", { class: "actions", role: "group", "aria-label": "What you may ask for" }, [...this.buttons.values()])),
      this.absent,
      this.cards,
    );
  }

  button(verb) {
    const { text, danger } = VERBS[verb];
    const button = h("button", { type: "button", class: danger ? "danger" : "", "data-verb": verb, hidden: true }, text);
    button.addEventListener("click", () => this.press(verb, button));
    return button;
  }

  async press(verb, button) {
    const { namespace, name } = this.wanted;
    if (button.ariaBusy === "true" || !(await confirmed(VERBS[verb], `${namespace}/${name}`))) return;
    // A disabled button would lose the focus.
    button.ariaBusy = "true";
    const refusal = await ask(namespace, name, verb);
    button.ariaBusy = null;
    if (refusal) this.refuse(`${VERBS[verb].text} was refused: ${refusal}`);
    else this.news(`${VERBS[verb].text} of ${name} is asked for`);
  }

  /** Begins to show another one, with what the list knows of it. */
  open(wanted, summary) {
    this.wanted = wanted;
    this.view = undefined;
    this.told = undefined;
    this.chart.clear();
    update(this.title, wanted, ({ namespace, name }) => [theirs(`${namespace}/`, { class: "ns" }), theirs(name)]);
    this.cards.hidden = true;
    this.absent.hidden = false;
    say(this.absent, "Asking for it …");
    for (const button of this.buttons.values()) button.hidden = true;
    update(this.state, summary ? standing(summary) : [], (it) => (it.length ? tag(it) : undefined));
    say(this.since, "");
  }

  /** Shows it as it stands; `partial` says why that is not all of it. */
  take(view, partial) {
    this.cards.hidden = !view || Boolean(partial);
    this.absent.hidden = !this.cards.hidden;
    if (this.cards.hidden) {
      const gone = "There is no such Canary: it was deleted, or you may not see it.";
      if (!view && this.told !== undefined && this.told !== gone) this.news(gone);
      this.told = view ? undefined : gone;
      this.view = undefined;
      say(this.absent, view ? `${printable(partial)} Canary weight: ${weight(view)}.` : gone);
      say(this.since, "");
      update(this.state, view ? standing(view) : [], (it) => (it.length ? tag(it) : undefined));
      for (const button of this.buttons.values()) {
        if (button === document.activeElement) this.title.focus();
        button.hidden = true;
      }
      return;
    }
    this.view = view;
    update(this.state, standing(view), (it) => tag(it));
    const verbs = possible(view);
    for (const [verb, button] of this.buttons) {
      if (!verbs.includes(verb) && button === document.activeElement) this.title.focus();
      button.hidden = !verbs.includes(verb);
    }
    this.whyCard.dataset.tone = standing(view)[1];
    this.showWhy(view);
    update(this.split, [view.weight, view.matching, view.onlyMatched, view.applied], () => drawSplit(view));
    // Between rollouts it is the one before that people ask about.
    const last = view.run ? undefined : view.last;
    say(this.armsCard.firstElementChild, view.run ? "Requests of this rollout" : view.ended ? "Requests of the rollout before" : "Requests");
    update(this.arms, [view.primary, view.canary, last], drawArms);
    update(this.ways, [view.evidence ?? last?.evidence ?? null, Boolean(last)], drawEvidence);
    update(this.guard, view.guard ?? null, drawGuard);
    update(this.steps, [view.steps, view.step], () => drawSteps(view));
    // It counts down each second, beside what somebody may be reading.
    const waits = this.steps.querySelector("[data-state=now] > p");
    if (waits) say(waits, printable(view.message));
    this.chart.show(view.history, view.started, view.run, view.fromStatus);
    update(this.gateways, [view.gateways, view.applied, view.fromStatus], drawGateways);
    update(this.metrics, [last?.metrics ?? view.metrics, view.checks, view.run], drawMetrics);
    update(this.webhooks, view.webhooks, drawWebhooks);
    update(this.events, view.events, drawEvents);
    update(this.past, view.rollouts, drawPast);
    this.tick(this.time.now);
    // The counts move each second; what a person would be called for is told.
    const told = `${view.name}: ${standing(view)[2]}, canary weight ${weight(view)}, ${view.reason}`;
    if (this.told !== undefined && this.told !== told) this.news(told);
    this.told = told;
  }

  showWhy({ stalled, phase, ended, reason, message, advice }) {
    // That a release has failed is seen already: what people look for is why.
    const cause = phase === "Failed" && !stalled && ended ? ended.message : "";
    this.cause.hidden = !cause;
    say(this.cause, printable(cause));
    this.because.className = cause ? "" : "lead";
    say(this.reason, printable(reason));
    say(this.message, printable(message));
    update(this.advice, advice, (text) => text && [h("b", {}, "What to do: "), ...withCommands(text)]);
  }

  tick(now) {
    if (!this.view) return;
    const { run, started, since } = this.view;
    say(this.since, run && started ? `rollout of ${short(this.view.canary.revision)} for ${age(now - started)}` : `for ${age(now - since)}`);
  }
}

/** Asks a person who is about to do what cannot be taken back. */
function confirmed({ text, sure, what, danger }, name) {
  if (!sure) return Promise.resolve(true);
  const find = (id) => document.getElementById(id);
  const dialog = find("confirm");
  say(find("confirm-heading"), sure);
  say(find("confirm-text"), `${printable(name)}: ${what}`);
  say(find("confirm-yes"), text);
  find("confirm-yes").classList.toggle("danger", Boolean(danger));
  dialog.returnValue = "no";
  dialog.showModal();
  find("confirm-no").focus();
  return new Promise((answer) => dialog.addEventListener("close", () => answer(dialog.returnValue === "yes"), { once: true }));
}

function drawSplit(view) {
  const { applied } = view;
  const at = (element, value) => {
    element.style.left = `${Math.min(100, Math.max(0, value))}%`;
    return element;
  };
  const bar = h("div", { class: "split", role: "img", "aria-label": `asked ${percent(view.weight)} percent, applied ${applied.weight === undefined ? "unknown" : `${percent(applied.weight)} percent`}, observed ${applied.observed === undefined ? "nothing yet" : `${percent(applied.observed)} percent`}` });
  if (applied.weight > 0) {
    const filled = h("div", { class: "applied" });
    filled.style.width = `${applied.weight}%`;
    bar.append(filled);
  }
  bar.append(at(h("div", { class: "asked" }), view.weight));
  if (applied.observed !== undefined) bar.append(at(h("div", { class: "observed" }), applied.observed));
  const entry = (sign, name, text) => h("li", { "data-kind": name }, h("span", { class: "sign", "aria-hidden": "true" }, sign), h("b", {}, `${name} `), text);
  const on = `by ${applied.gateways} of ${several(applied.of, "gateway")}`;
  return [
    bar,
    h("ul", { class: "legend" },
      entry("┃", "asked", weight(view)),
      entry("■", "applied", `${applied.weight === undefined ? "not known yet" : `${percent(applied.weight)} % everywhere`}; the newest ${on}`),
      entry("○", "observed", applied.observed === undefined ? "no request was drawn in this step yet" : `${percent(applied.observed)} % of ${several(applied.draws, "drawn request")}`)),
  ];
}

/** What runs now, and how the requests of `last` ended where no rollout is under way. */
function drawArms([primary, canary, last]) {
  const now = new Map([[last?.primary ?? primary, primary], [last?.canary ?? canary, canary]]);
  const [first, second] = now.keys();
  const row = (name, of) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, of(first)), h("td", {}, of(second)));
  const rate = (arm) => arm.failed / Math.max(1, arm.ended);
  const failed = (arm) => {
    const text = `${count(arm.failed)} (${share(arm.failed, arm.ended)})`;
    return arm === second && rate(second) > rate(first) ? h("span", { "data-tone": "bad" }, `⚠ ${text}, more often than the primary`) : text;
  };
  return h("table", { class: "arms" },
    h("thead", {}, h("tr", {}, h("td"), h("th", { scope: "col" }, "primary"), h("th", { scope: "col" }, "canary"))),
    h("tbody", {},
      row("revision", (arm) => h("code", { title: printable(arm.revision ?? "") }, short(arm.revision) || "–")),
      row(last ? "readiness now" : "readiness", (arm) => theirs(now.get(arm).readiness)),
      row("requests", (arm) => `${count(arm.requests)}, ${count(arm.ended)} ended`),
      row("failed", failed),
      row("given up", (arm) => count(arm.abandoned)),
      row("median", (arm) => quantile(arm.p50)),
      row("99 % within", (arm) => quantile(arm.p99))));
}

/** Evidence multiplies with each request, so the ways are logarithmic: half of one is half of the requests. */
function drawEvidence([evidenceView, isOver]) {
  if (!evidenceView) return h("p", { class: "faint" }, "Nothing is compared now: that begins with the first weight of a rollout.");
  const { logE, threshold, good, tests, ratio } = evidenceView;
  const bad = logE / Math.log(threshold);
  const near = 1 + Math.log(good) / Math.log(20);
  const part = (share) => `${Math.round(100 * Math.min(1, Math.max(0, Number.isFinite(share) ? share : 0)))} % of the way`;
  const told = [...tests].sort((a, b) => b.logE - a.logE).map((test) => `${test.test} ${evidence(test.logE)}`).join(", ");
  return [
    h("p", {}, isOver ? "Of the rollout before, when it was decided: " : "Verdict so far: ", h("b", {}, printable(evidenceView.verdict))),
    h("div", { class: "way" }, h("div", { class: "between" }, h("span", {}, "✖ to ", h("b", {}, "bad"), ": taken back"), h("span", {}, `${evidence(logE)} of ${Math.round(threshold)}`)),
      meter(bad, "bad", "way to the verdict bad"), h("p", { class: "faint" }, part(bad), h("br"), `by test: ${told}`)),
    h("div", { class: "way" }, h("div", { class: "between" }, h("span", {}, "✔ to ", h("b", {}, "good"), ": shown not to be worse"), h("span", {}, `${percent(100 * Math.min(1, good))} % of the proof`)),
      meter(near, "good", "way to the verdict good"), h("p", { class: "faint" }, part(near))),
    ratio && h("p", {}, ratioText(ratio)),
  ];
}

function ratioText({ low, estimate, high }) {
  const times = (n) => (n === 0 ? "0×" : n < 0.1 ? `${n.toFixed(2)}×` : n < 10 ? `${n.toFixed(1)}×` : `${count(Math.round(n))}×`);
  if (estimate !== null && high !== null) return `The canary fails ${times(estimate)} (${times(low)} to ${times(high)}) as often as the primary.`;
  if (estimate !== null) return `The canary fails ${times(estimate)} (${times(low)} or more) as often as the primary.`;
  return low > 0 ? `The canary alone fails, ${times(low)} as often as the primary or more.` : "The canary alone fails, too seldom yet to say more.";
}

function drawGuard(guard) {
  if (!guard) return undefined;
  const left = Math.max(0, guard.limit - guard.failed);
  const pips = guard.limit <= 40
    ? h("ul", { class: "pips", "aria-hidden": "true" }, Array.from({ length: guard.limit }, (_, i) => h("li", { "data-tone": i < guard.failed ? "bad" : "rest" }, i < guard.failed ? "✖" : "○")))
    : meter(guard.failed / guard.limit, "bad", "failures of those that the guard allows");
  return h("div", { class: "guard" }, h("p", {}, h("b", {}, "Guard: "), left === 0 ? "it has stopped the canary in " : `${several(left, "more failure")} and it stops the canary in `, theirs(guard.gateway, { class: "code" })), pips,
    h("p", { class: "faint" }, `${count(guard.failed)} of ${count(guard.limit)} failures in this stretch of the weight, by the gateway's own count`));
}

function drawSteps(view) {
  if (view.steps.length === 0) return h("p", { class: "faint" }, "No steps are known.");
  const words = { done: "✔ passed", now: "◌ now" };
  const step = (it, i) => h("li", { "data-state": it.state ?? "", "aria-current": it.state === "now" && "step" },
    h("div", {}, h("b", {}, it.matching && it.weight === 0 ? "matching" : `${percent(it.weight)} %`), h("span", { class: "faint" }, ` step ${i + 1}`)),
    h("div", { "data-tone": it.state === "now" ? "busy" : it.state === "done" ? "good" : "rest" }, words[it.state] ?? "ahead"),
    h("ul", { "aria-label": "waits for" }, it.waits.map((wait) => h("li", {}, theirs(wait)))),
    it.state === "now" && h("p", { class: "text" }));
  return h("ol", { class: "steps", tabindex: "0", "aria-label": "Steps" }, view.steps.map(step));
}

function drawGateways([gateways, applied, fromStatus]) {
  if (fromStatus) return h("p", { class: "faint" }, `${applied.gateways} of ${several(applied.of, "gateway")} acknowledged; which ones cannot be read with your rights.`);
  if (gateways.length === 0) return h("p", { class: "faint" }, "None is seen from here.");
  return h("ul", { class: "plain events" }, [...gateways].sort((a, b) => a.acknowledged - b.acknowledged).map(({ name, acknowledged, silent }) =>
    h("li", { "data-name": printable(name) }, h("span", { "data-tone": acknowledged ? "good" : "busy" }, acknowledged ? "✔ acknowledged" : silent ? "? never heard of" : "◌ not yet"), theirs(name, { class: "code" }))));
}

/** A table that is wider than a phone is moved sideways, with the keyboard too. */
function wide(label, table) {
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label }, table);
}

function drawMetrics([metrics, checks, run]) {
  const result = { inside: ["✔ inside", "good"], outside: ["✖ outside", "bad"], unknown: ["◌ no value", "rest"] };
  const bounds = ({ min, max, unit }) => [min !== undefined && `≥ ${min} ${unit ?? ""}`, max !== undefined && `≤ ${max} ${unit ?? ""}`].filter(Boolean).join(", ") || "–";
  const value = (it) => (it.value === null ? printable(it.message) || "–" : `${percent(it.value)} ${it.unit ?? ""}`);
  return [
    h("p", {}, run ? `${checks.failed} of ${several(checks.threshold, "failed check")} that take the canary back` : metrics.some((it) => it.value !== null) ? "Last values of the rollout before." : "No rollout is under way."),
    metrics.length > 0 && wide("Metrics", h("table", {},
      h("thead", {}, h("tr", {}, ["metric", "value", "bounds", "result"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, metrics.map((it) => h("tr", {}, h("td", {}, theirs(it.name)), h("td", {}, value(it)), h("td", {}, bounds(it)), h("td", { "data-tone": result[it.result]?.[1] }, result[it.result]?.[0] ?? it.result)))))),
  ];
}

function drawWebhooks(webhooks) {
  if (webhooks.length === 0) return undefined;
  const said = { Passed: ["✔ passed", "good"], Failed: ["✖ closed or failed", "bad"] };
  return wide("Webhooks", h("table", {},
    h("thead", {}, h("tr", {}, ["webhook", "type", "said last"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, webhooks.map((it) => h("tr", {}, h("td", {}, theirs(it.name)), h("td", {}, printable(it.type)),
      h("td", {}, h("span", { "data-tone": said[it.result]?.[1] ?? "rest" }, said[it.result]?.[0] ?? "◌ not called yet"), it.message && [": ", theirs(it.message)]))))));
}

function drawEvents(events) {
  if (events.length === 0) return h("p", { class: "faint" }, "Nothing has happened yet.");
  const mark = { info: ["•", "rest", "normal"], warning: ["⚠", "busy", "warning"], error: ["✖", "bad", "error"] };
  return h("ul", { class: "plain events", tabindex: "0", "aria-label": "Events, newest first" }, [...events].reverse().map(({ at, severity, reason, text }) => {
    const [sign, tone, word] = mark[severity] ?? mark.info;
    return h("li", {}, h("span", { class: "faint" }, clock(at)), h("b", { "data-tone": tone }, h("span", { "aria-label": word, role: "img" }, sign), ` ${printable(reason)}`), theirs(text, { class: "text" }));
  }));
}

function drawPast(rollouts) {
  if (rollouts.length === 0) return h("p", { class: "faint" }, "No rollout has ended yet.");
  const word = { promoted: ["✔ promoted", "good"], rolledback: ["✖ taken back", "bad"], superseded: ["◌ replaced", "busy"], promotionfailed: ["✖ not promoted", "bad"] };
  return wide("Last rollouts, newest first", h("table", {},
    h("thead", {}, h("tr", {}, ["when", "revision", "result", "took", "failed"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, [...rollouts].reverse().map((it) => h("tr", {}, h("td", {}, clock(it.at)), h("td", {}, h("code", {}, short(it.revision))),
      h("td", {}, h("span", { "data-tone": word[it.result]?.[1] }, word[it.result]?.[0] ?? it.result), h("br"), h("span", { class: "faint" }, printable(it.reason))),
      h("td", {}, age(it.at - it.started)), h("td", {}, `${count(it.canaryFailed)} of ${count(it.canaryEnded)}`))))));
}
