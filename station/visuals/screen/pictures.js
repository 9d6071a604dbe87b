// The pictures of a screen: loaded before they are shown, kept as long as they are needed, and faded one into the next.

const FADE = 1000, AT_ONCE = 2, RETRY = 10_000, LONGEST = 60_000, PATIENCE = 60_000;
export const KEPT = 48; // encoded they are some 100 kB each, so that hours of a programme fit

export class Pictures {
  #stage;
  #pool = new Map(); // address → {image, state, tries, at}
  #wanted = "";
  #shown = null;
  #ahead = [];

  constructor(stage) {
    this.#stage = stage;
  }

  // Show a picture as soon as it is whole; until then, and if it never is, the one before stays.
  want(address) {
    if (!address || address === this.#wanted) return;
    this.#wanted = address;
    this.tick();
  }

  // Load what will be wanted, in this order, and forget everything else.
  preload(addresses) {
    this.#ahead = [...new Set(addresses)].slice(0, KEPT);
    this.tick();
  }

  // Go on loading; called every second.
  tick() {
    const now = performance.now(), needed = new Set([this.#wanted, ...this.#ahead].filter(Boolean));
    for (const [address, one] of this.#pool) {
      if (one.state === "loading" && now - one.at > PATIENCE) this.#failed(one);
      if (!needed.has(address) && one.image !== this.#shown && !one.image.isConnected) this.#drop(address, one);
    }
    let loading = [...this.#pool.values()].filter((one) => one.state === "loading").length;
    for (const address of needed) {
      const one = this.#pool.get(address);
      const due = !one || (one.state === "failed" && now >= one.at);
      if (due && (loading < AT_ONCE || address === this.#wanted)) {
        this.#load(address, one?.tries ?? 0);
        loading += 1;
      }
    }
    const one = this.#pool.get(this.#wanted);
    if (one?.state === "ready" && one.image !== this.#shown) this.#show(one);
  }

  #drop(address, one) {
    one.state = "dropped";
    one.image.removeAttribute("src"); // ends a transfer, too
    this.#pool.delete(address);
  }

  #load(address, tries) {
    const image = new Image();
    const one = { image, state: "loading", tries, at: performance.now() };
    this.#pool.set(address, one);
    image.alt = "";
    image.src = address;
    image.decode().then(() => {
      if (one.state !== "loading") return;
      one.state = "ready";
      one.tries = 0;
      this.tick();
    }, () => { if (one.state === "loading") this.#failed(one); });
  }

  #failed(one) {
    one.state = "failed";
    one.image.removeAttribute("src");
    one.at = performance.now() + Math.min(RETRY * 2 ** one.tries, LONGEST);
    one.tries += 1;
  }

  // What was decoded once is decoded again: the browser may have dropped it meanwhile.
  #show(one) {
    const image = one.image;
    this.#shown = image;
    image.decode().then(() => {
      if (this.#shown !== image) return;
      image.classList.remove("shown");
      this.#stage.append(image);
      image.getBoundingClientRect(); // so that the fade begins at nothing
      image.classList.add("shown");
      setTimeout(() => { while (image.isConnected && image.previousSibling) image.previousSibling.remove(); }, FADE + 100);
    }, () => {
      if (this.#shown !== image) return;
      this.#shown = this.#stage.lastElementChild;
      this.#failed(one);
    });
  }
}
