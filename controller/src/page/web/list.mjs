// Every Canary in a row: what needs a person first.

import { age, count, h, meter, printable, say, share, standing, tag, theirs, update, weight } from "./draw.mjs";

const GROUPS = [
  ["person", "Needs a person"],
  ["moving", "Moving"],
  ["resting", "At rest"],
];

const keyOf = (namespace, name) => `${namespace}/${name}`;
export const href = (view) => `#/${encodeURIComponent(view.namespace)}/${encodeURIComponent(view.name)}`;

export class List {
  /** `time` has what time it is, as who serves the page has it. */
  constructor(root, time) {
    this.time = time;
    this.items = new Map();
    this.rows = new Map();
    this.fresh = undefined;
    this.only = undefined;
    this.due = false;
    this.find = h("input", { type: "search", id: "find", class: "find", placeholder: "Filter: name, namespace, phase or reason  ( / )", "aria-label": "Filter", autocomplete: "off", spellcheck: "false" });
    this.find.addEventListener("input", () => this.draw());
    this.buttons = new Map(GROUPS.map(([group]) => [group, this.button(group)]));
    this.lists = new Map(GROUPS.map(([group]) => [group, h("ul", { class: "rows" })]));
    this.titles = new Map(GROUPS.map(([group, text]) => [group, h("h2", { class: "group" }, text)]));
    this.problems = h("ul", { class: "card problems", "aria-label": "Objects that cannot be used", hidden: true });
    this.empty = h("p", { class: "card empty", hidden: true });
    root.append(
      h("h1", { id: "list-heading", class: "unseen" }, "Canaries"),
      h("div", { class: "tools" }, this.find, h("div", { class: "groups", role: "group", "aria-label": "Show only" }, [...this.buttons.values()])),
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
    for (const key of [...this.rows.keys()]) {
      if (!this.items.has(key)) {
        this.rows.get(key).root.remove();
        this.rows.delete(key);
      }
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
    say(this.empty, this.items.size === 0 ? "There are no Canaries yet. The first one appears here by itself." : "No Canary fits the filter.");
  }

  /** Has a list hold these rows in this order, and moves none that stands right: one with the focus keeps it. */
  arrange(list, keys) {
    let at = list.firstElementChild;
    for (const key of keys) {
      const item = this.items.get(key);
      const row = this.rows.get(key) ?? new Row(item);
      this.rows.set(key, row);
      row.show(item, this.time.now);
      if (row.root === at) at = at.nextElementSibling;
      else list.insertBefore(row.root, at);
    }
    while (at) {
      const next = at.nextElementSibling;
      at.remove();
      at = next;
    }
  }

  /** Arrows go from row to row. */
  key(event) {
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
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
    update(this.fails, [failed, ended, resting], () =>
      resting || ended === 0 ? undefined
        : h("span", failed / ended > item.primary[0] / Math.max(1, item.primary[1]) ? { "data-tone": "bad" } : {}, `${count(failed)} of ${count(ended)} failed (${share(failed, ended)})`));
    update(this.said, [item.reason, item.message, item.step], ([reason, message, step]) =>
      resting || !reason ? undefined : [h("b", {}, printable(reason)), step ? ` · step ${step[0]} of ${step[1]}` : "", ": ", printable(message)]);
    this.tick(now);
  }

  tick(now) {
    if (this.item.attention === "resting" && this.item.since) say(this.said, `for ${age(now - this.item.since)}`);
    if (this.item.attention === "resting") this.said.classList.add("faint");
    else this.said.classList.remove("faint");
  }
}

