"use strict";
// Plays all streams of an instance. What there is comes by /events; the pictures by one WebSocket a stream, for browsers
// open only six plain connections to a server. Only streams that are in sight are played: a live one that nobody
// looks at is not read by its server either.
const SILENT = 3000; // milliseconds without a line (one comes each 500) after which /events is asked for anew
const AGAIN = 1000;
const cards = new Map();
const place = (path) => new URL(path.replace(/^\//, ""), document.baseURI);

class Card {
  constructor(stream) {
    this.element = document.getElementById("card").content.firstElementChild.cloneNode(true);
    this.image = this.element.querySelector("img");
    this.inSight = false;
    this.stream = stream;
    sight.observe(this.element);
    this.element.card = this;
  }

  show(stream) {
    this.stream = stream;
    const size = stream.width ? `, ${stream.width}×${stream.height}` : "";
    const say = (selector, text) => {
      const found = this.element.querySelector(selector);
      if (found.textContent !== text) found.textContent = text;
    };
    this.element.dataset.key = stream.key;
    this.image.alt = `Pictures of ${stream.name}`;
    say("h2", stream.room ? `${stream.name} (${stream.room})` : stream.name);
    say(".facts", `${stream.ips}/s${size}${stream.protocol ? `, ${stream.protocol} on port ${stream.port}` : ""}`);
    say(".state", stream.state === "ready" ? "" : stream.state_text || stream.state);
    const links = Object.entries({ picture: stream.urls.latest, MJPEG: stream.urls.mjpeg, RTP: stream.urls.sdp });
    const list = this.element.querySelector(".links");
    if (!list.children.length) {
      for (const [word, path] of links.filter(([, path]) => path)) {
        const link = document.createElement("a");
        link.href = place(path);
        link.textContent = word;
        link.setAttribute("aria-label", `${word} of ${stream.name}`);
        list.append(link);
      }
    }
  }

  play(inSight) {
    this.inSight = inSight;
    if (!inSight) this.socket?.close();
    else if (!this.socket) this.open();
  }

  open() {
    const address = place(this.stream.urls.websocket);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = (this.socket = new WebSocket(address));
    socket.binaryType = "blob";
    socket.onmessage = (event) => this.picture(event.data);
    socket.onclose = () => {
      this.socket = null;
      setTimeout(() => this.inSight && !this.socket && cards.has(this.stream.key) && this.open(), AGAIN);
    };
  }

  picture(blob) {
    const last = this.image.src;
    this.image.src = URL.createObjectURL(blob);
    if (last) URL.revokeObjectURL(last);
  }

  remove() {
    sight.unobserve(this.element);
    this.play(false);
    this.element.remove();
  }
}

const sight = new IntersectionObserver((entries) => {
  for (const entry of entries) entry.target.card.play(entry.isIntersecting && !document.hidden);
}, { rootMargin: "100px" });

document.addEventListener("visibilitychange", () => {
  for (const card of cards.values()) {
    if (document.hidden) card.play(false);
    else {
      sight.unobserve(card.element);
      sight.observe(card.element);
    }
  }
});

function show(told) {
  document.getElementById("from").textContent = `${told.event}: ${told.station}/${told.instance}`;
  document.getElementById("none").hidden = told.streams.length > 0;
  const keys = new Set(told.streams.map((stream) => stream.key));
  for (const [key, card] of cards) {
    if (!keys.has(key)) {
      cards.delete(key);
      card.remove();
    }
  }
  const list = document.getElementById("streams");
  told.streams.forEach((stream, at) => {
    if (!cards.has(stream.key)) cards.set(stream.key, new Card(stream));
    const card = cards.get(stream.key);
    card.show(stream);
    if (list.children[at] !== card.element) list.insertBefore(card.element, list.children[at] ?? null);
  });
}

async function listen() {
  const ended = new AbortController();
  let timer = setTimeout(() => ended.abort(), SILENT);
  try {
    const answer = await fetch(place("events"), { signal: ended.signal, cache: "no-store" });
    if (!answer.ok) return;
    const reader = answer.body.getReader();
    const decoder = new TextDecoder();
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => ended.abort(), SILENT);
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop();
      for (const line of lines) if (line) show(JSON.parse(line));
      document.getElementById("offline").hidden = true;
    }
  } catch (error) {
    if (!(error instanceof TypeError || error.name === "AbortError")) throw error; // those are the network's
  } finally {
    clearTimeout(timer);
    document.getElementById("offline").hidden = false;
    setTimeout(listen, AGAIN);
  }
}

listen();
