// Plays live streams, and says how far behind the room they are.
"use strict";
(() => {
  const box = document.getElementById("players");
  const began = performance.now(), server = Number(box.dataset.now); // the browser's own clock may be off
  const now = () => server + (performance.now() - began) / 1000;
  for (const card of box.querySelectorAll("article")) {
    const video = card.querySelector("video"), button = card.querySelector("button"), told = card.querySelector(".delay");
    let hls = null;
    video.poster = video.dataset.poster;
    const stop = (why) => {
      hls?.destroy();
      hls = null;
      button.hidden = false;
      told.textContent = why;
    };
    button.addEventListener("click", () => {
      if (!Hls.isSupported()) { told.textContent = "This browser cannot play the stream."; return; }
      // a worker would be a script that is not one of ours by its address
      hls = new Hls({ enableWorker: false, liveDurationInfinity: true });
      button.hidden = true;
      told.textContent = "loading …";
      hls.on(Hls.Events.ERROR, (_name, error) => {
        if (!error.fatal) return;
        if (error.type === Hls.ErrorTypes.MEDIA_ERROR) { hls.recoverMediaError(); return; }
        stop("The stream is away; press again.");
      });
      hls.on(Hls.Events.MANIFEST_PARSED, () => video.play().catch(() => { told.textContent = "press play"; }));
      hls.loadSource(video.dataset.stream);
      hls.attachMedia(video);
    });
    setInterval(() => {
      if (hls?.playingDate) told.textContent = `${Math.max(0, now() - hls.playingDate.getTime() / 1000).toFixed(0)} s behind the room`;
    }, 500);
  }
})();
