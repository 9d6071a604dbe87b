// The catalogue's page: what /events tells, each stream with its newest picture from its own server.

const SILENCE = 2500; // five signs of life
const PAUSE = 1000; // between two tries
const EVERY = 1000, SLOWEST = 10_000; // between two pictures of a stream
const PATIENCE = 15_000; // for a picture: a live stream has to be woken first
const STALE = 10_000; // a picture that did not come anew for so long is no news

const find = (id) => document.getElementById(id);
const write = (element, text) => { if (element.textContent !== text) element.textContent = text; };
const local = (host) => ["localhost", "127.0.0.1", "[::1]"].includes(host);
const cards = new Map(); // by server and key

// A server that names itself by loopback runs on the catalogue's own machine.
const address = (base, path) => {
  try {
    const url = new URL(base);
    if (!["http:", "https:"].includes(url.protocol) || !path.startsWith("/")) return null;
    if (local(url.hostname) && !local(location.hostname)) url.hostname = location.hostname;
    return url.origin + path;
  } catch {
    return null;
  }
};

const seen = new IntersectionObserver((changes) => {
  for (const { target, isIntersecting } of changes) target.visible = isIntersecting;
}, { rootMargin: "200px" });

class Card {
  constructor() {
    this.element = find("card").content.firstElementChild.cloneNode(true);
    this.box = this.element.querySelector(".picture");
    this.url = null;
    this.due = this.came = 0;
    this.loading = null;
    seen.observe(this.element);
  }

  tell(stream) {
    const part = (name) => this.element.querySelector(name);
    this.name = stream.name || stream.key;
    write(part("h3"), this.name);
    const size = stream.width && stream.height ? `, ${stream.width}×${stream.height}` : "";
    const count = stream.count ? `, ${stream.count} picture${stream.count === 1 ? "" : "s"}` : "";
    write(part(".what"), `${stream.type ?? ""}${size}, ${stream.ips ?? "?"} a second${count}`.replace(/^, /, ""));
    const host = (stream.address ?? "").includes(":") ? `[${stream.address}]` : stream.address;
    write(part(".where"), stream.protocol ? `ID ${stream.number ?? stream.id}: ${stream.protocol} ${host}:${stream.port}` : "");
    const viewers = stream.viewers ? `${stream.viewers} viewer${stream.viewers === 1 ? "" : "s"}` : "";
    const state = stream.state && stream.state !== "ready" ? [stream.state, stream.state_text].filter(Boolean).join(": ") : "";
    write(part(".how"), [state, viewers, stream.server].filter(Boolean).join(" · "));
    part(".how").classList.toggle("bad", state !== "");
    const path = stream.urls?.latest;
    this.every = Math.min(Math.max(1000 / stream.ips, EVERY), SLOWEST);
    this.url = stream.base && path ? address(stream.base, path) : null;
    if (!this.url) this.show(null);
  }

  show(image) {
    for (const old of this.box.querySelectorAll("img")) old.remove();
    if (image) this.box.append(image);
  }

  // A new picture takes the old one's place when it is there, whole; without one the old stays, and looks old.
  look(now) {
    this.box.classList.toggle("stale", this.came > 0 && now - this.came > STALE + this.every);
    if (!this.url || !this.element.visible || now < this.due) return;
    this.due = now + PATIENCE;
    const image = new Image(), url = this.url;
    image.alt = `newest picture of ${this.name}`;
    image.onload = () => {
      if (this.loading !== image || this.url !== url) return;
      this.came = performance.now();
      this.due = now + this.every;
      this.show(image);
    };
    image.onerror = () => { if (this.loading === image) this.due = performance.now() + 2 * EVERY; };
    this.loading = image;
    image.src = `${url}${url.includes("?") ? "&" : "?"}at=${Math.round(now)}`;
  }
}

setInterval(() => {
  if (document.hidden) return;
  const now = performance.now();
  for (const card of cards.values()) card.look(now);
}, 200);

// --- what runs -----------------------------------------------------------------------------------------------------

const order = (a, b) => (a.number ?? a.id) - (b.number ?? b.id);

const section = (room) => {
  for (const one of find("rooms").children) if (one.dataset.room === room) return one;
  const made = document.createElement("section");
  made.dataset.room = room;
  made.append(document.createElement("h2"), document.createElement("ul"));
  write(made.firstElementChild, room);
  find("rooms").append(made);
  return made;
};

const show = ({ event, streams, servers }) => {
  const title = event ? `Image streams of ${event}` : "Image streams";
  document.title = title;
  write(document.querySelector("h1"), title);
  const kept = new Set(), rooms = new Map();
  for (const stream of streams.toSorted(order)) {
    const key = `${stream.server} ${stream.key}`, room = stream.room ?? "";
    kept.add(key);
    if (!cards.has(key)) cards.set(key, new Card());
    cards.get(key).tell(stream);
    rooms.set(room, [...(rooms.get(room) ?? []), cards.get(key).element]);
  }
  for (const [key, card] of cards) {
    if (!kept.has(key)) { seen.unobserve(card.element); cards.delete(key); card.element.remove(); }
  }
  for (const [place, room] of [...rooms.keys()].sort().entries()) {
    const one = section(room), there = find("rooms").children[place] ?? null;
    if (there !== one) find("rooms").insertBefore(one, there);
    const list = one.lastElementChild, wanted = rooms.get(room);
    if (wanted.some((element, place) => list.children[place] !== element)) list.replaceChildren(...wanted);
  }
  for (const one of [...find("rooms").children]) if (!rooms.has(one.dataset.room)) one.remove();
  const away = servers.filter(({ state }) => state !== "running");
  find("away").hidden = !away.length;
  find("away").lastElementChild.replaceChildren(...away.map((one) => {
    const line = document.createElement("li");
    const place = one.room ? ` (${one.room})` : "";
    const since = one.state === "away" ? ` since ${new Date(one.since * 1000).toLocaleTimeString()}: ${one.state_text}` : "";
    line.textContent = `${one.name}${place}: ${one.state}${since}`;
    return line;
  }));
  find("state").className = "";
  document.body.classList.remove("offline");
  write(find("state"), streams.length === 1 ? "1 stream runs" : `${streams.length} streams run`);
};

const read = async () => {
  const stop = new AbortController();
  let timer = setTimeout(() => stop.abort(), SILENCE);
  try {
    const answer = await fetch("/events", { signal: stop.signal, cache: "no-store" });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => stop.abort(), SILENCE);
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) if (line.trim()) show(JSON.parse(line));
    }
  } finally {
    clearTimeout(timer);
    stop.abort();
  }
};

for (;;) {
  try { await read(); } catch (error) { if (!["AbortError", "TypeError", "Error"].includes(error.name)) console.error(error); }
  document.body.classList.add("offline");
  find("state").className = "bad";
  write(find("state"), "the catalogue is away; what is below is what it said last");
  await new Promise((go) => setTimeout(go, PAUSE));
}
