// Link keeps one desktop on the screen: it asks for a ticket, has it opened, and when the connection ends it tries again, waits for
// the desktop to run again, or says that this is the end. It knows no page, so that it can be tested without one.

import { state } from './words.mjs';

// delays are the pauses before each try; the last one repeats.
const delays = [500, 1000, 2000, 4000, 8000, 10_000];
// patience is how long tries go on.
const patience = 120_000;
// steady is how long a connection lasts before it counts as one that worked.
const steady = 5000;
// How often a desktop is looked at that changes, and one that does not.
const lookOften = 1000, lookSometimes = 4000;

// verdict says what follows on an end: 'again', 'watch', 'out' or 'final'.
export function verdict(why) {
  switch (why) {
    case 'signed-out':
      return 'out';
    case 'not-running':
    case 'desktop-stopping':
    case 'desktop-ended':
    case 'not-now':
      return 'watch';
    case 'taken-over':
    case 'rule-changed':
    case 'no-desktop':
    case 'no-viewer':
    case 'no-browser':
      return 'final';
    default:
      return 'again';
  }
}

export const delay = (tries) => delays[Math.min(tries, delays.length - 1)];

export class Link {
  // ticket() gives a ticket, look() the desktop or null when it is gone; both throw Problems.
  // open(ticket) gives a screen: its `closed` is a promise of why it ended. It throws something with that as its `code`.
  // tell(state) is told of every change: { phase: 'connecting' | 'connected' | 'again' | 'waiting' | 'ended', ... }.
  constructor({ ticket, look, open, tell, clock = realClock }) {
    Object.assign(this, { ticket, look, open, tell, clock });
    this.over = false;
    this.id = ''; // of the decision not to let the person in
    this.reset();
  }

  reset() {
    this.tries = 0;
    this.since = null;
    this.refusals = 0;
  }

  // run lasts until the end or stop().
  async run() {
    this.tell({ phase: 'connecting' });
    while (!this.over) {
      let why = await this.once();
      if (this.over) return;
      if (verdict(why) === 'watch') why = await this.watch(why);
      if (why === null || this.over) continue;
      if (!await this.follow(why)) return;
    }
  }

  // once connects and stays until the connection ends; it gives the reason.
  async once() {
    let began = null;
    this.id = '';
    try {
      const ticket = await this.ticket();
      if (this.over) return 'over';
      this.screen = await this.open(ticket);
      began = this.clock.now();
      if (this.over) {
        this.screen.close();
        return 'over';
      }
      this.tell({ phase: 'connected' });
      return await this.screen.closed;
    } catch (problem) {
      this.id = problem?.id ?? '';
      return problem?.code ?? 'broken';
    } finally {
      this.screen = null;
      if (began !== null && this.clock.now() - began >= steady) this.reset();
    }
  }

  // watch waits until the desktop can be connected to, and gives null; or the reason for which it never will.
  async watch(why) {
    while (!this.over) {
      let desktop;
      try {
        desktop = await this.look();
      } catch (problem) {
        return problem?.code ?? 'broken';
      }
      if (this.over) return null;
      if (!desktop) return 'no-desktop';
      this.tell({ phase: 'waiting', desktop, why });
      if (desktop.canConnect) {
        // It said so before and was not: each time it is believed a little later.
        await this.pause(delay(this.tries++));
        return null;
      }
      this.tries = 0;
      this.since = null;
      await this.pause(state(desktop).changing ? lookOften : lookSometimes);
    }
    return null;
  }

  // follow does what follows on an end; false: nothing.
  async follow(why) {
    if (why === 'refused') this.refusals++;
    let what = verdict(why);
    if (why === 'refused' && this.refusals > 1) what = 'final';
    if (what === 'out') {
      this.tell({ phase: 'ended', why: 'signed-out' });
      return false;
    }
    if (what === 'again') {
      this.since ??= this.clock.now();
      if (this.clock.now() - this.since < patience) {
        const wait = delay(this.tries++);
        this.tell({ phase: 'again', why, tries: this.tries, wait });
        await this.pause(wait);
        if (!this.over) this.tell({ phase: 'again', why, tries: this.tries, wait: 0 });
        return true;
      }
      what = 'final';
      why = why === 'protocol' || why === 'broken' ? 'broken' : 'gave-up';
    }
    this.tell({ phase: 'ended', why, ...(this.id && { id: this.id }) });
    await this.pause(Infinity);
    if (this.over) return false;
    this.reset();
    this.tell({ phase: 'connecting' });
    return true;
  }

  // pause waits, or until hurry().
  async pause(ms) {
    await new Promise((resolve) => {
      this.wake = resolve;
      if (ms !== Infinity) this.cancel = this.clock.after(ms, resolve);
    });
    this.cancel?.();
    this.wake = this.cancel = null;
  }

  // hurry ends a pause: the person asked for it, or the network is back.
  hurry() {
    this.wake?.();
  }

  // stop ends everything; nothing is told any more.
  stop() {
    this.over = true;
    this.tell = () => {};
    this.screen?.close();
    this.hurry();
  }
}

const realClock = {
  now: () => performance.now(),
  after: (ms, fn) => {
    const timer = setTimeout(fn, ms);
    return () => clearTimeout(timer);
  },
};
