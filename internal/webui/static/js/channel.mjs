// Channel is the WebSocket of one screen. It presents the ticket, keeps the gateway's notes apart from the picture, notices a line that
// has gone silent, and looks to noVNC like the WebSocket it carries.

export const protocol = 'carrel.display.v1';
// The status with which the gateway closes; the reason beside it is one of its short codes.
const closeCode = 4000;
// The gateway makes itself heard every two seconds once it measures the latency.
const silence = 10_000;
const openTimeout = 40_000;

// Closed is a channel that did not open. code is the gateway's reason, or 'lost'.
export class Closed extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

export class Channel {
  // open gives a channel whose ticket has been taken; hello is the gateway's first word. note is told of its later ones.
  static async open(url, ticket, note, { WebSocket = globalThis.WebSocket } = {}) {
    const channel = new Channel(new WebSocket(url, [protocol]), note);
    await channel.#begin(ticket);
    return channel;
  }

  #socket;
  #note;
  #waiting = [];
  #receive = null;
  #settle;
  #over = false;
  #measured = false;
  #heard = 0;
  #ticked = 0;
  #timer = null;

  // ending is called before noVNC is told of the end and takes its picture away.
  ending = null;
  onopen = null;
  onerror = null;
  onclose = null;

  constructor(socket, note) {
    this.#socket = socket;
    this.#note = note;
    this.hello = null;
    // bytes of picture have come so far.
    this.bytes = 0;
    // closed is a promise of the reason of the end.
    this.closed = new Promise((resolve) => { this.#settle = resolve; });
    socket.binaryType = 'arraybuffer';
    socket.onclose = (event) => this.#end(event.code === closeCode && event.reason ? event.reason : 'lost', event);
    socket.onerror = () => {};
    socket.onmessage = (event) => this.#take(event);
  }

  async #begin(ticket) {
    const timer = setTimeout(() => this.#end('lost'), openTimeout);
    const greeted = new Promise((resolve) => { this.#note = wrap(this.#note, resolve); });
    this.#socket.onopen = () => this.#socket.send(JSON.stringify({ ticket }));
    const why = await Promise.race([greeted, this.closed]);
    clearTimeout(timer);
    if (typeof why === 'string') throw new Closed(why);
    this.hello = why;
    this.#watch();
  }

  #take(event) {
    this.#heard = performance.now();
    if (typeof event.data === 'string') {
      let note;
      try {
        note = JSON.parse(event.data);
      } catch {
        return;
      }
      if (note?.type === 'latency') this.#measured = true;
      this.#note(note);
      return;
    }
    this.bytes += event.data.byteLength;
    if (this.#receive && this.#waiting.length === 0) this.#receive(event);
    else this.#waiting.push(event); // noVNC is not attached yet.
  }

  // A line can die without a word: a lid that was closed, a network that changed. The gateway speaks every two seconds, so silence
  // tells; only time in which this page has run counts.
  #watch() {
    this.#ticked = this.#heard = performance.now();
    this.#timer = setInterval(() => {
      const now = performance.now();
      if (now - this.#ticked > 4000) this.#heard = now; // The page slept.
      this.#ticked = now;
      if (this.#measured && now - this.#heard > silence) this.#end('lost');
    }, 1000);
  }

  #end(why, event = { code: 1006, reason: '' }) {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#timer);
    this.ending?.();
    this.#settle(why);
    const socket = this.#socket;
    socket.onopen = socket.onmessage = socket.onclose = null;
    if (socket.readyState < 2) socket.close();
    this.onclose?.(event);
  }

  // What noVNC uses of a WebSocket.
  get readyState() { return this.#over ? 3 : this.#socket.readyState; }
  get protocol() { return this.#socket.protocol; }
  get binaryType() { return this.#socket.binaryType; }
  set binaryType(type) { this.#socket.binaryType = type; }
  get onmessage() { return this.#receive; }
  set onmessage(fn) {
    this.#receive = fn;
    // Not at once: noVNC sets its handlers one after the other.
    queueMicrotask(() => {
      for (const event of this.#waiting.splice(0)) this.#receive?.(event);
    });
  }

  send(data) {
    if (!this.#over) this.#socket.send(data);
  }

  close() { this.#end('closed', { code: 1000, reason: '' }); }
}

// wrap lets the first note, the gateway's hello, go to first and the others to rest.
function wrap(rest, first) {
  let greeted = false;
  return (note) => {
    if (greeted) return rest(note);
    if (note?.type !== 'open') return undefined;
    greeted = true;
    return first(note);
  };
}
