// What every page does: it tells when its connection to the manager is lost and heals by itself, shows pictures that
// renew themselves, and keeps what somebody is about to press where it is.
"use strict";
(() => {
  const SILENT = 25000; // milliseconds without a word of a stream that speaks every 10 s
  const PICTURE = 3000; // milliseconds between two pictures: an ingest renews its preview as often
  const IDLE = 30000; // milliseconds after which nobody is about to press anything
  const lost = document.getElementById("link");
  const streamed = document.querySelector("[hx-sse\\:connect]");
  let heard = Date.now(), touched = 0, over = false;

  const here = () => { heard = Date.now(); lost.hidden = true; };
  const gone = () => { if (!over) lost.hidden = false; };
  if (streamed) {
    for (const name of ["htmx:sse:after:connection", "htmx:sse:after:message", "alive"]) streamed.addEventListener(name, here);
    streamed.addEventListener("htmx:sse:error", (event) => {
      if (event.detail.status === 401) location.reload(); // the session has ended, and the sign-in leads back
      else gone();
    });
    // a stream that could not even begin is not tried again by itself: it counts as silent in two seconds
    streamed.addEventListener("htmx:error", (event) => {
      if (event.target === streamed) heard = Date.now() - SILENT + 2000;
    });
    streamed.addEventListener("renew", () => location.reload());
    // what is about to be pressed stays where it is: news waits for it, for three seconds at most
    const near = () => Date.now() - touched < 1500 && streamed.querySelector("a:hover, button:hover, summary:hover");
    const calm = async () => { for (let turn = 0; turn < 30 && near(); turn++) await new Promise((go) => setTimeout(go, 100)); };
    streamed.addEventListener("htmx:sse:before:message", (event) => { if (near()) event.detail.waitUntil(calm()); });
    streamed.addEventListener("done", () => { over = true; });
    setInterval(async () => {
      if (over || document.hidden || Date.now() - heard < SILENT) return;
      gone();
      // a stream that died without a word never ends by itself: once the manager answers, the page begins anew
      try { if ((await fetch("/healthz", { cache: "no-store" })).ok) location.reload(); } catch { heard += 5000; }
    }, 1000);
  }

  // pictures: only those in sight, and the old one stays until the new one is whole
  const seen = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) seen[entry.isIntersecting ? "add" : "delete"](entry.target);
  });
  const renew = () => {
    if (document.hidden) return;
    for (const image of document.querySelectorAll("img[data-live]:not([data-watched])")) {
      image.dataset.watched = "";
      watcher.observe(image);
    }
    for (const image of seen) {
      if (!image.isConnected) { seen.delete(image); watcher.unobserve(image); continue; }
      const next = new Image();
      next.onload = () => { image.src = next.src; delete image.dataset.old; };
      next.onerror = () => { image.dataset.old = ""; };
      next.src = `${image.dataset.live}?${Math.floor(Date.now() / 1000)}`;
    }
  };
  setTimeout(renew, 100);
  setInterval(renew, PICTURE);

  // the worst first, but only when nobody is near: a card never moves from under a finger
  const cards = document.getElementById("cards");
  for (const name of ["pointermove", "pointerdown", "keydown", "scroll", "touchstart"]) {
    addEventListener(name, () => { touched = Date.now(); }, { passive: true });
  }
  const sort = () => {
    if (!cards || Date.now() - touched < IDLE || cards.contains(document.activeElement)) return;
    const now = [...cards.children], wanted = [...now].sort((a, b) => a.dataset.rank - b.dataset.rank);
    if (now.some((card, place) => card !== wanted[place])) cards.append(...wanted);
  };
  setInterval(sort, 5000);

  // logs: bounded, and at their end as long as somebody is there
  for (const log of document.querySelectorAll("[data-most]")) {
    let atEnd = true;
    log.addEventListener("scroll", () => { atEnd = log.scrollTop + log.clientHeight > log.scrollHeight - 40; });
    const end = () => {
      while (log.children.length > log.dataset.most) log.firstElementChild.remove();
      if (atEnd) log.scrollTop = log.scrollHeight;
    };
    new MutationObserver(end).observe(log, { childList: true });
    end();
  }
})();
