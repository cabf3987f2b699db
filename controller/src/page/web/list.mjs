// Every Canary in a row: what needs a person first.

import { age, count, h, meter, printable, say, share, standing, tag, theirs, update, weight } from "./draw.mjs";

const GROUPS = [
  ["person", "Needs a person"],
  ["moving", "Moving"],
  ["resting", "At rest"],
];

/** Least time between two such sentences. */
const TOLD_APART = 10000;
const KEYS = "weir-keys";

const keyOf = (namespace, name) => `${namespace}/${name}`;
export const href = (view) => `#/${encodeURIComponent(view.namespace)}/${encodeURIComponent(view.name)}`;

export class List {
  /** `time` has what time it is, as who serves the page has it; `news` tells who cannot see. */
  constructor(root, time, news) {
    this.time = time;
    this.news = news;
    /** Those of which was told that they need a person, and when. */
    this.told = undefined;
    this.toldAt = -Infinity;
    this.waits = undefined;
    this.items = new Map();
    this.rows = new Map();
    this.fresh = undefined;
    this.only = undefined;
    this.due = false;
    this.find = h("input", { type: "search", id: "find", class: "find", placeholder: "Filter: name, namespace, phase or reason  ( / )", "aria-label": "Filter", autocomplete: "off", spellcheck: "false" });
    this.find.addEventListener("input", () => this.draw());
    this.keys = h("button", { type: "button", class: "keys", title: "Whether / goes to the filter, and j and k from row to row" }, "Keys / j k");
    this.keys.addEventListener("click", () => this.setKeys(!this.hasKeys));
    this.setKeys(stored(KEYS) !== "off");
    this.buttons = new Map(GROUPS.map(([group]) => [group, this.button(group)]));
    this.lists = new Map(GROUPS.map(([group]) => [group, h("ul", { class: "rows" })]));
    this.titles = new Map(GROUPS.map(([group, text]) => [group, h("h2", { class: "group" }, text)]));
    this.problems = h("ul", { class: "card problems", "aria-label": "Objects that cannot be used", hidden: true });
    this.empty = h("p", { class: "card empty", hidden: true });
    root.append(
      h("h1", { id: "list-heading", class: "unseen" }, "Canaries"),
      h("div", { class: "tools" }, this.find, h("div", { class: "groups", role: "group", "aria-label": "Show only" }, [...this.buttons.values()]), this.keys),
      this.problems,
      this.empty,
      ...GROUPS.flatMap(([group]) => [this.titles.get(group), this.lists.get(group)]),
    );
    this.root = root;
    // Wherever the focus is: a page that was just opened has it nowhere.
    document.addEventListener("keydown", (event) => root.hidden || this.key(event));
  }

  button(group) {
    const button = h("button", { type: "button", "aria-pressed": "false", "data-group": group });
    button.addEventListener("click", () => {
      this.only = this.only === group ? undefined : group;
      this.draw();
    });
    return button;
  }

  /** Commands of a single letter are in the way of who speaks to the machine. */
  setKeys(on) {
    this.hasKeys = on;
    this.keys.setAttribute("aria-pressed", String(on));
    store(KEYS, on ? "on" : "off");
  }

  /** How many need a person. */
  get persons() {
    return [...this.items.values()].filter((item) => item.attention === "person").length;
  }

  get(namespace, name) {
    return this.items.get(keyOf(namespace, name));
  }

  take(line) {
    if (line.whole) this.fresh = new Set();
    for (const item of line.items) {
      const shown = { weight: 0, canary: [0, 0], primary: [0, 0], attention: "resting", ...item };
      // A word of a newer Weir.
      if (!GROUPS.some(([group]) => group === shown.attention)) shown.attention = "moving";
      this.items.set(keyOf(item.namespace, item.name), shown);
      this.fresh?.add(keyOf(item.namespace, item.name));
    }
    for (const [namespace, name] of line.gone) this.items.delete(keyOf(namespace, name));
    // What was there before a whole list stays in sight until all of that list has come.
    if (line.cursor && this.fresh) {
      for (const key of this.items.keys()) if (!this.fresh.has(key)) this.items.delete(key);
      this.fresh = undefined;
    }
    this.problems.hidden = line.problems.length === 0;
    update(this.problems, line.problems, (problems) => problems.map((problem) => h("li", {}, theirs(problem))));
    this.draw();
  }

  draw() {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => {
      this.due = false;
      this.render();
    });
  }

  render() {
    const words = this.find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const numbers = { person: 0, moving: 0, resting: 0 };
    const shown = { person: [], moving: [], resting: [] };
    const sorted = [...this.items.entries()].sort(([a], [b]) => (a < b ? -1 : 1));
    for (const [key, item] of sorted) {
      const text = `${key} ${item.phase} ${item.reason ?? ""} ${item.message ?? ""}`.toLowerCase();
      numbers[item.attention] += 1;
      const fits = words.every((word) => text.includes(word)) && (!this.only || this.only === item.attention);
      if (fits) shown[item.attention].push(key);
    }
    const inSight = new Set(Object.values(shown).flat());
    for (const [key, row] of [...this.rows]) {
      if (!inSight.has(key)) row.root.remove();
      if (!this.items.has(key)) this.rows.delete(key);
    }
    for (const [group, text] of GROUPS) {
      const button = this.buttons.get(group);
      say(button, `${text}: ${count(numbers[group])}`);
      button.setAttribute("aria-pressed", String(this.only === group));
      this.arrange(this.lists.get(group), shown[group]);
      this.titles.get(group).hidden = shown[group].length === 0;
    }
    const none = GROUPS.every(([group]) => shown[group].length === 0);
    this.empty.hidden = !none;
    this.announce();
    say(this.empty, this.items.size === 0 ? "There are no Canaries yet. The first one appears here by itself." : "No Canary fits the filter.");
  }

  /** Has a list hold these rows in this order, and moves none that stands right: one with the focus keeps it. What leaves the list is taken
   * by the one that it goes to. */
  arrange(list, keys) {
    const rows = keys.map((key) => {
      const item = this.items.get(key);
      const row = this.rows.get(key) ?? new Row(item);
      this.rows.set(key, row);
      row.show(item, this.time.now);
      return row.root;
    });
    const stays = new Set(rows);
    let at = list.firstElementChild;
    for (const row of rows) {
      while (at && !stays.has(at)) at = at.nextElementSibling;
      if (row === at) at = at.nextElementSibling;
      else move(list, row, at);
    }
  }

  /** Says which came to need a person: not at first, and not each of many. */
  announce() {
    if (this.fresh || this.items.size === 0) return;
    const now = [...this.items].filter(([, item]) => item.attention === "person").map(([key]) => key);
    const news = this.told ? now.filter((key) => !this.told.has(key)) : [];
    const left = this.toldAt + TOLD_APART - performance.now();
    if (news.length > 0 && left > 0) {
      this.waits ??= setTimeout(() => {
        this.waits = undefined;
        this.announce();
      }, left);
      return;
    }
    this.told = new Set(now);
    if (news.length === 0) return;
    this.toldAt = performance.now();
    this.news(news.length === 1 ? `${news[0]} needs a person` : `${count(news.length)} more Canaries need a person: ${news.slice(0, 3).join(", ")}${news.length > 3 ? " and others" : ""}`);
  }

  /** Arrows go from row to row. */
  key(event) {
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
    if (event.key.length === 1 && !this.hasKeys) return;
    const elsewhere = event.target instanceof HTMLInputElement && event.target !== this.find;
    if (!step || elsewhere || event.ctrlKey || event.metaKey || event.altKey || (event.target === this.find && event.key.length === 1)) return;
    const links = [...this.root.querySelectorAll(".row a")];
    const now = links.indexOf(document.activeElement);
    const next = links[now < 0 ? (step > 0 ? 0 : links.length - 1) : now + step];
    if (next) {
      event.preventDefault();
      next.focus();
    } else if (step < 0) this.find.focus();
  }

  /** Gives the focus to a Canary's row, and says whether there is one. */
  focus({ namespace, name }) {
    const row = this.rows.get(keyOf(namespace, name));
    row?.link.focus({ preventScroll: true });
    return row !== undefined && row.link === document.activeElement;
  }

  tick(now) {
    for (const row of this.rows.values()) row.tick(now);
  }
}

/** Moves a row without a loss of the focus. */
function move(list, row, before) {
  const focused = row.contains(document.activeElement) && document.activeElement;
  if (list.moveBefore && row.isConnected) list.moveBefore(row, before);
  else list.insertBefore(row, before);
  if (focused && focused !== document.activeElement) focused.focus({ preventScroll: true });
}

/** What a browser keeps for a page, where it keeps anything. */
function stored(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return undefined;
  }
}

function store(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // It holds until the page is closed.
  }
}

class Row {
  constructor(item) {
    this.link = h("a", { href: href(item) }, theirs(`${item.namespace}/`, { class: "ns" }), theirs(item.name));
    this.state = h("div");
    this.weight = h("div", { class: "bartext" });
    this.fails = h("div", { class: "fails" });
    this.said = h("div", { class: "said text" });
    this.root = h("li", { class: "row" }, h("div", { class: "name" }, this.link), this.state, this.weight, this.fails, this.said);
  }

  show(item, now) {
    if (this.item === item) return;
    this.item = item;
    this.root.dataset.attention = item.attention;
    update(this.state, [standing(item)], ([it]) => tag(it));
    const resting = item.attention === "resting";
    update(this.weight, [item.weight, weight(item), resting], ([share, text]) =>
      resting ? h("span", { class: "faint" }, "primary only") : [meter(share / 100, "", "weight of the canary"), h("span", {}, text)]);
    const [failed, ended] = item.canary;
    const [worse, better] = [failed / Math.max(1, ended), item.primary[0] / Math.max(1, item.primary[1])];
    update(this.fails, [failed, ended, item.primary, resting], () => {
      if (resting || ended === 0) return undefined;
      const text = `${count(failed)} of ${count(ended)} failed`;
      return worse > better ? h("span", { "data-tone": "bad" }, `⚠ ${text} (${share(failed, ended)}; primary ${share(...item.primary)})`) : `${text} (${share(failed, ended)})`;
    });
    update(this.said, [item.reason, item.message, item.step, item.restricted], ([reason, message, step, restricted]) =>
      restricted ? h("span", { class: "faint" }, "why is shown to who may get the Canaries of its namespace")
      : resting || !reason ? undefined : [h("b", {}, printable(reason)), step ? ` · step ${step[0]} of ${step[1]}` : "", ": ", printable(message)]);
    this.tick(now);
  }

  tick(now) {
    if (this.item.attention === "resting" && this.item.since && !this.item.restricted) say(this.said, `for ${age(now - this.item.since)}`);
    if (this.item.attention === "resting") this.said.classList.add("faint");
    else this.said.classList.remove("faint");
  }
}

