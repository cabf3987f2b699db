// What the server tells, line by line; and how long ago it did.

const KEY = "weir-token";
const [SHORTEST_PAUSE, LONGEST_PAUSE] = [500, 10000];
// The server says something every 5 s at least. What has not been heard of for longer is old,
const SILENT = 8000;
// and after so long its connection is dead: where a network is cut nobody says so.
const DEAD = 12000;

/** Takes the token out of the address, so that it is in no bookmark and over nobody's shoulder; says whether there was one. */
export function takeToken() {
  const found = /^#token=(.+)$/.exec(location.hash);
  if (!found) return false;
  history.replaceState(null, "", `${location.pathname}#/`);
  try {
    setToken(decodeURIComponent(found[1]));
  } catch {
    setToken(found[1]);
  }
  return true;
}

/** Says whether somebody is let in here who has no token. */
export async function letsStrangersIn() {
  const look = new AbortController();
  try {
    return (await fetch("/page/stream", { signal: look.signal, cache: "no-store" })).ok;
  } catch {
    return false;
  } finally {
    look.abort();
  }
}

export function dropToken() {
  sessionStorage.removeItem(KEY);
}

export const hasToken = () => Boolean(sessionStorage.getItem(KEY));

export function setToken(token) {
  sessionStorage.setItem(KEY, token.trim());
}

function headers() {
  const token = sessionStorage.getItem(KEY);
  return token ? { authorization: `Bearer ${token}` } : {};
}

/** Asks for a verb; returns nothing, or why not. */
export async function ask(namespace, name, verb) {
  const path = ["page", "canaries", namespace, name, verb].map(encodeURIComponent).join("/");
  try {
    const answer = await fetch(`/${path}`, { method: "POST", headers: headers() });
    if (answer.ok) return undefined;
    return (await said(answer)) ?? `refused with status ${answer.status}`;
  } catch {
    return "nobody answers: is weir dashboard running?";
  }
}

async function said(answer) {
  try {
    return (await answer.json()).error;
  } catch {
    return undefined;
  }
}

export class Feed {
  /** `hear(line)` is given every line, `refused(text)` why the token is not taken. */
  constructor(hear, refused) {
    this.hear = hear;
    this.refused = refused;
    this.cursor = "";
    this.wanted = undefined;
    this.heard = undefined;
    this.lost = undefined;
    this.ahead = 0;
    this.abort = undefined;
  }

  /** Looks at one Canary in full from now on; at none without a name. */
  want(wanted) {
    if (JSON.stringify(wanted) === JSON.stringify(this.wanted) && this.abort) return;
    this.wanted = wanted;
    this.restart();
  }

  /** Looks at nothing until it is restarted. */
  stop() {
    this.abort?.abort();
    this.abort = undefined;
  }

  /** Looks as somebody else: whatever was seen is seen anew. */
  again() {
    this.cursor = "";
    this.restart();
  }

  /** Looks anew where what is shown is old: after a sleep the connection is dead, and nobody says so. */
  wake() {
    if (this.abort && this.silence.isOld) this.restart();
  }

  restart() {
    this.abort?.abort();
    this.abort = new AbortController();
    this.run(this.abort.signal);
  }

  /** The time as who serves the page has it: a browser's clock may be another. */
  get now() {
    return Date.now() + this.ahead;
  }

  /** Says whether what is shown is old, and since when, in milliseconds. */
  get silence() {
    // One of the clocks stands still while a machine sleeps, the other one may be set back.
    const age = this.heard && Math.max(performance.now() - this.heard.running, Date.now() - this.heard.civil);
    return { age, isOld: this.lost !== undefined || (age !== undefined && age > SILENT), why: this.lost };
  }

  async run(signal) {
    let pause = SHORTEST_PAUSE;
    while (!signal.aborted) {
      const begun = performance.now();
      try {
        await this.read(signal);
        pause = SHORTEST_PAUSE;
        // Whoever ends each answer at once is not asked without end.
        if (performance.now() - begun > SHORTEST_PAUSE) continue;
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Denied) {
          this.abort = undefined;
          this.refused(error.message);
          return;
        }
        this.lost = error instanceof Told ? error.message : "nobody answers";
      }
      await new Promise((go) => setTimeout(go, pause));
      pause = Math.min(2 * pause, LONGEST_PAUSE);
    }
  }

  async read(signal) {
    const connection = new AbortController();
    let dead;
    const alive = () => {
      clearTimeout(dead);
      dead = setTimeout(() => connection.abort(), DEAD);
    };
    const query = new URLSearchParams({ since: this.cursor, ...this.wanted });
    try {
      alive();
      const either = AbortSignal.any([signal, connection.signal]);
      const answer = await fetch(`/page/stream?${query}`, { headers: headers(), signal: either, cache: "no-store" });
      if (answer.status === 401 || answer.status === 403) throw new Denied((await said(answer)) ?? "refused");
      if (!answer.ok) throw new Told((await said(answer)) ?? `status ${answer.status}`);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        alive();
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        // Somebody else is looked at by now.
        if (signal.aborted) return;
        for (const line of lines) this.take(JSON.parse(line));
      }
    } finally {
      clearTimeout(dead);
    }
  }

  take(line) {
    if (line.kind === "lost") {
      this.lost = line.error;
      return;
    }
    // The greeting comes before anybody has looked.
    if (line.kind === "hello") this.ahead = line.now ? line.now - Date.now() : 0;
    else {
      this.heard = { running: performance.now(), civil: Date.now() };
      this.lost = undefined;
    }
    if (line.kind === "list" && line.cursor) this.cursor = line.cursor;
    this.hear(line);
  }
}

class Denied extends Error {}
class Told extends Error {}
