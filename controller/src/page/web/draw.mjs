// Elements, and how numbers and times are written. Whatever others wrote is set as text, never as markup.

/** Makes an element: `h("p", {class: "faint"}, "text", child)`. Strings become text. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Makes an element of a drawing. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

/** A text that somebody else wrote: isolated, so that it does not reorder what stands beside it. */
export function theirs(text, attributes = {}) {
  return h("bdi", attributes, printable(text));
}

const shown = new WeakMap();

/** Puts other children into an element, and says whether it did: not where nothing changed. What can be moved keeps its place and the focus. */
export function update(element, value, make) {
  const key = JSON.stringify(value);
  if (shown.get(element) === key) return false;
  shown.set(element, key);
  const places = movable(element).map((part) => [part.ariaLabel, part.scrollLeft, part.scrollTop, part === document.activeElement]);
  element.replaceChildren(...[make(value)].flat().filter((child) => child !== undefined && child !== null && child !== false));
  for (const [label, left, top, focused] of places) {
    const part = movable(element).find((part) => part.ariaLabel === label);
    if (!part) continue;
    [part.scrollLeft, part.scrollTop] = [left, top];
    if (focused) part.focus({ preventScroll: true });
  }
  return true;
}

const movable = (element) => [...element.querySelectorAll("[tabindex='0']")];

/** Sets a text where it differs, so that nothing is drawn or read again in vain. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A bar that is filled to a share from 0 to 1. */
export function meter(share, kind, label) {
  const fill = h("i");
  fill.style.width = `${(100 * clamp(share)).toFixed(2)}%`;
  const value = Math.round(100 * clamp(share));
  return h("div", { class: `meter ${kind}`, role: "meter", "aria-label": label, "aria-valuenow": value, "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
}

export const clamp = (share) => Math.min(1, Math.max(0, Number.isFinite(share) ? share : 0));

/** Leaves out what hides or reorders other text; what joins the parts of one picture stays. */
export function printable(text) {
  return String(text ?? "").replace(/((?<=[\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f])\u200d(?=\p{Extended_Pictographic}))|[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu, (_, joins) => joins ?? "\ufffd");
}

export const count = (n) => Number(n ?? 0).toLocaleString("en-US");

export function several(n, what) {
  return `${count(n)} ${what}${n === 1 ? "" : "s"}`;
}

/** Percent with two digits after the point at most: 10, 0.25. */
export function percent(value) {
  return String(Math.round(100 * (value ?? 0)) / 100);
}

/** A share of requests: 0.117 %, 7.32 %. */
export function share(part, of) {
  if (!of) return "–";
  const value = (100 * part) / of;
  if (value === 0) return "0\u00a0%";
  return `${value < 1 ? value.toFixed(3) : value < 10 ? value.toFixed(2) : value.toFixed(1)}\u00a0%`;
}

export function quantile(q) {
  if (!q) return "–";
  if (q.beyond) return `>${Math.round(q.ms)} ms`;
  return q.ms < 10 ? `${q.ms.toFixed(1)} ms` : `${Math.round(q.ms)} ms`;
}

/** A length of time: 4s, 4m12s, 3h05m, 12d. */
export function age(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const two = (n) => String(n).padStart(2, "0");
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m${two(seconds % 60)}s`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)}h${two(Math.floor(seconds / 60) % 60)}m`;
  return `${Math.floor(seconds / 86400)}d`;
}

/** When something was, in the reader's time, with the moment itself for whoever hovers. */
export function clock(ms) {
  const at = new Date(ms);
  if (!ms || Number.isNaN(at.getTime())) return h("span", {}, "–");
  return h("time", { datetime: at.toISOString(), title: at.toISOString() }, moment(at));
}

/** The time of day, with the date of another day than today. */
function moment(at) {
  return at.toDateString() === new Date().toDateString() ? at.toLocaleTimeString() : at.toLocaleString();
}

/** Writes every time anew: what was today is yesterday after midnight. */
export function refreshClocks() {
  for (const time of document.querySelectorAll("time")) say(time, moment(new Date(time.dateTime)));
}

/** A sentence of Weir's with commands between backticks. */
export function withCommands(text) {
  return String(text ?? "").split("`").map((part, i) => (i % 2 ? h("code", {}, printable(part)) : theirs(part)));
}

/** Evidence as a number while it can be read, then as a power of ten. */
export function evidence(log) {
  if (log < 0) return Math.exp(log).toFixed(2);
  if (log < 4) return Math.exp(log).toFixed(1);
  if (log < 14) return count(Math.round(Math.exp(log)));
  return `1e${Math.round(log / Math.LN10)}`;
}

export const short = (revision) => printable(revision ?? "").slice(0, 8);

/** The sign, the tone and the word of where a Canary stands. */
export function standing(view) {
  if (view.stalled) return ["✖", "bad", "Stalled"];
  if (view.phase === "Failed") return ["✖", "bad", view.paused ? "Failed, paused" : "Failed"];
  if (view.paused) return ["‖", "busy", `${view.phase}, paused`];
  switch (view.phase) {
    case "Initialized": case "Succeeded": return ["✔", "good", view.phase];
    case "Waiting": case "WaitingPromotion": return ["‖", "busy", view.phase];
    case "Terminating": case "Terminated": return ["•", "rest", view.phase];
    default: return ["◌", "busy", view.phase];
  }
}

export function tag([sign, tone, word]) {
  return h("span", { class: "tag", "data-tone": tone }, h("span", { "aria-hidden": "true" }, sign), word);
}

/** The weight in words: of everybody, or of those that a condition meets. */
export function weight(view) {
  const number = percent(view.weight);
  if (view.matching) return view.weight > 0 ? `${number} % + matching` : "matching";
  return view.onlyMatched && view.weight > 0 ? `${number} % of matching` : `${number} %`;
}
