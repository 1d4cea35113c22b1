// Poll calls a function again and again: as soon after the last call as that asked for, and never while the page is hidden.

export class Poll {
  #timer = null;
  #running = false;
  #on = false;
  #again = false;

  // look gives the milliseconds until the next call. It must not throw.
  constructor(look, { document = globalThis.document } = {}) {
    this.look = look;
    this.document = document;
    document.addEventListener('visibilitychange', () => this.now());
  }

  start() {
    this.#on = true;
    return this.now();
  }

  stop() {
    this.#on = false;
    clearTimeout(this.#timer);
  }

  // now looks at once; a call that is under way is followed by another one.
  async now() {
    clearTimeout(this.#timer);
    if (!this.#on || this.document.hidden) return;
    if (this.#running) {
      this.#again = true;
      return;
    }
    this.#running = true;
    let wait = 0;
    do {
      this.#again = false;
      wait = await this.look();
    } while (this.#again && this.#on);
    this.#running = false;
    if (this.#on && !this.document.hidden) this.#timer = setTimeout(() => this.now(), wait);
  }
}
