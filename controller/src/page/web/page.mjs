// The page: what is looked at, and how it is with the connection.

import { Detail } from "./detail.mjs";
import { age, h, printable, refreshClocks, say } from "./draw.mjs";
import { Feed, dropToken, hasToken, letsStrangersIn, setToken, takeToken } from "./feed.mjs";
import { List } from "./list.mjs";

const find = (id) => document.getElementById(id);
const [main, listRoot, detailRoot, entry, link, stale, partial] = ["main", "list", "detail", "entry", "link", "stale", "partial"].map(find);

takeToken();
const feed = new Feed(hear, denied);
const list = new List(listRoot, feed, news);
const detail = new Detail(detailRoot, feed, news, refuse);
let told;
/** What is open, and where the list stood when it was opened. */
let [opened, place] = [undefined, 0];

function hear(line) {
  if (line.kind === "hello") say(find("title"), printable(line.title));
  if (line.kind === "list") {
    list.take(line);
    partial.hidden = !line.partial;
    if (line.partial) say(find("partial-why"), printable(line.partial));
    // Who was let in without a token may have one.
    find("enter").hidden = hasToken();
    title();
  }
  if (line.kind === "detail") detail.take(line.detail, line.partial);
  entry.hidden = true;
  show();
  tick();
}

/** Shows the list or one Canary, as the address says. */
function show() {
  const wanted = route();
  const open = entry.hidden;
  listRoot.hidden = !open || wanted !== undefined;
  detailRoot.hidden = !open || wanted === undefined;
}

function route() {
  const parts = location.hash.replace(/^#\//, "").split("/");
  if (!location.hash.startsWith("#/") || parts.length !== 2) return undefined;
  try {
    const [namespace, name] = parts.map(decodeURIComponent);
    return { namespace, name };
  } catch {
    return undefined;
  }
}

function navigate() {
  const [left, wanted] = [opened, route()];
  if (!left) place = scrollY;
  opened = wanted;
  if (wanted) detail.open(wanted, list.get(wanted.namespace, wanted.name));
  title();
  feed.want(wanted);
  show();
  if (wanted) find("detail-heading")?.focus();
  else if (left && !list.focus(left)) main.focus();
  scrollTo(0, wanted ? 0 : place);
}

/** How many need a person is seen from another tab. */
function title() {
  const persons = list.persons;
  document.title = `${persons > 0 ? `(${persons}) ` : ""}${opened ? `${printable(opened.name)} · ` : ""}Weir`;
}

async function denied(text) {
  link.dataset.state = "waiting";
  say(link, "not let in");
  // One that has ended, or was mistyped, would keep its owner out for as long as the tab is open.
  dropToken();
  askForToken(text);
  find("leave").hidden = !(await letsStrangersIn());
}

function askForToken(why, leave = "Look without a token") {
  entry.hidden = false;
  partial.hidden = true;
  say(find("leave"), leave);
  find("leave").hidden = true;
  say(find("entry-why"), printable(why));
  show();
  find("token").focus();
}

/** Says something to who cannot see it change. */
function news(text) {
  const said = h("p", {}, printable(text));
  find("news").append(said);
  setTimeout(() => said.remove(), 15000);
}

function refuse(text) {
  say(find("toast"), printable(text));
  clearTimeout(refuse.end);
  refuse.end = setTimeout(() => say(find("toast"), ""), 12000);
}

/** How old is what is seen? */
function tick() {
  const { age: silent, isOld, why } = feed.silence;
  const state = !entry.hidden || (silent === undefined && !isOld) ? "waiting" : isOld ? "lost" : "live";
  if (state !== "waiting") {
    link.dataset.state = state;
    say(link, state === "live" ? "live" : "connection lost");
  }
  stale.hidden = state !== "lost";
  if (state === "lost") {
    const old = silent === undefined ? "Nothing has been heard yet" : `What you see is ${age(silent)} old`;
    // Read aloud once, not each second.
    stale.setAttribute("aria-live", told === "lost" ? "off" : "assertive");
    say(stale, `${old}: ${printable(why ?? "nobody answers")}. Trying again.`);
  }
  told = state;
  document.body.dataset.link = state;
  detail.tick(feed.now);
}

addEventListener("hashchange", () => {
  if (takeToken()) feed.again();
  navigate();
});
addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || find("confirm").open) return;
  const typing = event.target instanceof HTMLInputElement;
  if (event.key === "/" && list.hasKeys && !typing && !listRoot.hidden) {
    event.preventDefault();
    list.find.focus();
  } else if (event.key === "Escape" && !detailRoot.hidden) {
    location.hash = "#/";
  } else if (event.key === "Escape" && typing && list.find.value) {
    list.find.value = "";
    list.draw();
  }
});
// A fragment would be taken for the address of a Canary.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
entry.addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(find("token").value);
  find("token").value = "";
  feed.again();
});
find("enter").addEventListener("click", () => {
  feed.stop();
  askForToken("Whose token it is decides what you see and may ask for. It stays in this tab.", "Cancel");
  find("leave").hidden = false;
});
find("leave").addEventListener("click", () => feed.again());
for (const [who, what] of [[document, "visibilitychange"], [globalThis, "online"], [globalThis, "pageshow"]]) {
  who.addEventListener(what, () => {
    if (document.hidden) return;
    tick();
    refreshClocks();
    feed.wake();
  });
}
setInterval(tick, 1000);
setInterval(() => {
  list.tick(feed.now);
  refreshClocks();
}, 10000);
navigate();
