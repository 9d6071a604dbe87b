// A room's screen. What is pushed is shown; the programme, which came with it, takes over whenever nothing newer came.
import { Clock } from "./clock.js";
import { KEPT, Pictures } from "./pictures.js";

const SILENCE = 45_000; // three heartbeats
const FIRST = 1000, LONGEST = 30_000; // pauses between two tries
const UNSEEN = 5000; // a short loss is nobody's business
const STALE = 60_000; // after that a loss is one: the programme knows better than what came last
const WAITING = 50, SLIDES = 1000;
const PACE = 10; // seconds in which running text crosses the screen

const { room, domain, version } = document.body.dataset;
const find = (id) => document.getElementById(id);
const clock = new Clock(), pictures = new Pictures(find("stage"));
const box = find("text"), line = box.firstElementChild;
const still = matchMedia("(prefers-reduced-motion: reduce)");
const live = { image: null, text: null };
let programme = { slides: [], override: null };
let waiting = []; // what has a trigger time that has not come

// --- what is shown -------------------------------------------------------------------------------------------------

const write = (element, text) => { if (element.textContent !== text) element.textContent = text; };

let running = null;
const fit = () => {
  running?.cancel();
  running = null;
  box.classList.remove("wraps");
  const space = box.clientWidth, width = line.offsetWidth;
  if (width <= space || !space) return;
  if (still.matches) { box.classList.add("wraps"); return; }
  running = line.animate(
    [{ transform: `translateX(${space}px)` }, { transform: `translateX(${-width}px)` }],
    { duration: ((space + width) / space) * PACE * 1000, iterations: Infinity, iterationStart: space / (space + width) },
  );
};
let space = 0;
new ResizeObserver(() => { if (box.clientWidth !== space) { space = box.clientWidth; fit(); } }).observe(box);
still.addEventListener("change", fit);

const say = (text) => {
  if (line.textContent === text) return;
  line.textContent = text;
  fit();
};

const address = (text) => {
  try {
    const url = new URL(text, location.href);
    return ["http:", "https:", "data:"].includes(url.protocol) ? url.href : "";
  } catch {
    return "";
  }
};

// What was pushed, or the slide, whichever is newer; while the server is away for long always the slide whose time it is.
// `since`: milliseconds, the slide's start or the end of an override that covered it.
const choose = (pushed, slide, since, value) => {
  const past = slide && (pushed?.when < since || (stale() && clock.now() < slide.end * 1000));
  if (pushed !== null && !past) return pushed;
  return slide ? { value, link: slide.link } : null;
};

const show = () => {
  const now = clock.now(), { override, slides } = programme;
  for (const one of waiting.filter(({ at }) => at <= now)) live[one.kind] = one.item;
  waiting = waiting.filter(({ at }) => at > now);
  const slide = slides.findLast(({ start }) => start * 1000 <= now); // the last one stays after its end, too
  let picture, text;
  if (override && override.until * 1000 > now) {
    picture = { value: address(override.image), link: null };
    text = { value: override.text };
  } else {
    const since = Math.max(slide?.start ?? 0, override?.until ?? 0) * 1000;
    picture = choose(live.image, slide, since, slide && address(slide.image));
    text = choose(live.text, slide, since, slide?.text);
  }
  if (picture) pictures.want(picture.value);
  if (picture) write(find("link"), String(picture.link ?? "").replace(/^https?:\/\//, "").replace(/\/$/, ""));
  if (text) say(String(text.value ?? ""));
  const coming = slides.filter(({ end }) => end * 1000 > now).slice(0, KEPT - 2).map((one) => address(one.image));
  const first = [override && override.until * 1000 > now ? address(override.image) : "", live.image?.value ?? ""];
  pictures.preload([...first, ...coming].filter(Boolean));
  write(find("clock"), clock.text(now));
  const away = lost !== null && performance.now() - lost > UNSEEN;
  find("offline").hidden = !away;
  if (away) write(find("offline"), `offline since ${clock.text(now - (performance.now() - lost))}`);
};

// --- what comes ----------------------------------------------------------------------------------------------------

const take = (kind, item, trigger) => {
  const at = Date.parse(trigger ?? "");
  if (at > clock.now()) waiting = [...waiting, { kind, at, item: { ...item, when: at } }].slice(-WAITING);
  else live[kind] = item;
};

const ON = {
  image: (told) => {
    const value = address(told.src);
    if (value) take("image", { value, link: told.link ?? null, when: Number(told.when) * 1000 || 0 }, told.trigger_time);
  },
  text: (told) => take("text", { value: told.body, when: Number(told.when) * 1000 || 0 }, told.trigger_time),
  programme: (told) => {
    const next = JSON.parse(told.body);
    if (!Array.isArray(next.slides)) return;
    const slides = next.slides.slice(0, SLIDES).sort((one, other) => one.start - other.start);
    programme = { slides, override: next.override ?? null };
    clock.in(next.timezone);
    if (next.title) document.title = next.title;
  },
  beat: (told) => {
    clock.set(told.now);
    lost = null;
    pause = FIRST;
    if (told.version !== version) renew(told.version);
  },
};

// Load the page anew when the server has another one, and only if it answers with it: else this one goes on.
let renewing = false;
const renew = async (other) => {
  if (renewing || sessionStorage.getItem("renewed") === other) return;
  renewing = true;
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (answer.ok && (await answer.text()).includes(`data-version="${other}"`)) {
      sessionStorage.setItem("renewed", other);
      location.reload();
    }
  } catch { /* tried again at the next heartbeat */ }
  renewing = false;
};

// --- the connection ------------------------------------------------------------------------------------------------

let source = null, last = "", pause = FIRST, heard = 0, lost = null, again = 0;
const stale = () => lost !== null && performance.now() - lost > STALE;

const open = () => {
  clearTimeout(again);
  source?.close();
  heard = performance.now();
  const query = new URLSearchParams({ types: "image,text,programme", beat: "1", ...(last && { last_id: last }) });
  const path = [domain, `${room}-screen`].map(encodeURIComponent).join("/");
  source = new EventSource(`/radiodns/push/1.0/id/${path}?${query}`);
  for (const [kind, act] of Object.entries(ON)) {
    source.addEventListener(kind, (event) => {
      heard = performance.now();
      if (event.lastEventId) last = event.lastEventId;
      try {
        act(JSON.parse(event.data));
      } catch (error) {
        console.warn(`a message of kind ${kind} is not understood: ${error}`);
      }
      show();
    });
  }
  source.addEventListener("error", close);
};

// The browser's own way to connect again gives up for good on some answers, and does not see a connection that is silent.
const close = () => {
  source.close();
  lost ??= performance.now();
  clearTimeout(again);
  again = setTimeout(open, pause * (0.75 + Math.random() / 2));
  pause = Math.min(pause * 2, LONGEST);
};

setInterval(() => {
  if (source.readyState !== EventSource.CLOSED && performance.now() - heard > SILENCE) {
    lost ??= heard;
    close();
  }
  pictures.tick();
  show();
}, 1000);
clock.in("");
open();
show();
