import assert from 'node:assert/strict';
import { test } from 'node:test';
import { delay, Link, verdict } from '../../../internal/webui/static/js/link.mjs';

// clock is a time that passes as soon as everybody waits for it.
function clock() {
  let now = 0;
  const waiting = [];
  return {
    now: () => now,
    after: (ms, fn) => {
      const entry = { at: now + ms, fn };
      waiting.push(entry);
      return () => { const i = waiting.indexOf(entry); if (i >= 0) waiting.splice(i, 1); };
    },
    // pass lets everything happen until until() says so.
    async pass(until, steps = 2000) {
      for (let i = 0; i < steps; i++) {
        for (let k = 0; k < 20; k++) await null;
        if (until()) return;
        if (waiting.length === 0) continue;
        waiting.sort((a, b) => a.at - b.at);
        const next = waiting.shift();
        now = Math.max(now, next.at);
        next.fn();
      }
      throw new Error(`did not happen by ${now} ms`);
    },
    skip(ms) { now += ms; },
  };
}

const running = { id: 'ws-1', name: 'd', state: 'AVAILABLE', canConnect: true };
const stopped = { id: 'ws-1', name: 'd', state: 'STOPPED', canStart: true };
const starting = { id: 'ws-1', name: 'd', state: 'STARTING' };

// scene is a link with a world: opens is a list of how each attempt goes: { lasts, why } or a code.
function scene({ opens, looks = [running], ticket = () => 't' }) {
  const time = clock(), told = [];
  const tickets = [];
  let turn = 0;
  const link = new Link({
    clock: time,
    tell: (s) => told.push(s),
    ticket: async () => {
      const t = await ticket(tickets.length);
      tickets.push(t);
      return t;
    },
    look: async () => {
      const d = looks.length > 1 ? looks.shift() : looks[0];
      if (typeof d === 'string') throw { code: d };
      return d;
    },
    open: async () => {
      const how = opens[Math.min(turn++, opens.length - 1)];
      if (typeof how === 'string') throw { code: how };
      let end;
      const closed = new Promise((resolve) => { end = resolve; });
      if (how.lasts !== undefined) time.after(how.lasts, () => end(how.why));
      return { closed, close: () => end('closed') };
    },
  });
  const phases = () => told.map((s) => s.phase);
  return { link, time, told, tickets, phases, over: link.run() };
}

test('a dropped line is tried again with longer and longer pauses, each time with a fresh ticket', async () => {
  const s = scene({ opens: [{ lasts: 60_000, why: 'lost' }, 'lost', 'lost', 'lost', 'lost', 'lost', 'lost', {}] });
  await s.time.pass(() => s.phases().filter((p) => p === 'connected').length === 2);
  const waits = s.told.filter((x) => x.phase === 'again' && x.wait > 0).map((x) => x.wait);
  assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
  assert.equal(s.tickets.length, 8);
  s.link.stop();
  await s.over;
});

test('after two minutes it gives up, and goes on when asked', async () => {
  const s = scene({ opens: [{ lasts: 60_000, why: 'lost' }, ...Array(17).fill('lost'), {}] });
  await s.time.pass(() => s.told.at(-1).phase === 'ended');
  assert.equal(s.told.at(-1).why, 'gave-up');
  assert.ok(s.time.now() - 60_000 >= 120_000 && s.time.now() - 60_000 < 135_000, String(s.time.now()));
  s.link.hurry();
  await s.time.pass(() => s.phases().at(-1) === 'connected');
  s.link.stop();
  await s.over;
});

test('a connection that breaks again and again counts as one trouble', async () => {
  const s = scene({ opens: [{ lasts: 100, why: 'protocol' }] });
  await s.time.pass(() => s.told.at(-1).phase === 'ended');
  assert.equal(s.told.at(-1).why, 'broken');
  s.link.stop();
  await s.over;
});

test('who refuses says under which id', async () => {
  let id = '';
  const s = scene({ opens: [{}], ticket: async () => { throw { code: 'refused', id: id += 'x' }; } });
  await s.time.pass(() => s.told.at(-1).phase === 'ended');
  assert.deepEqual(s.told.at(-1), { phase: 'ended', why: 'refused', id: 'xx' });
  s.link.stop();
  await s.over;
});

test('a connection that lasted is a new beginning', async () => {
  const s = scene({ opens: [{ lasts: 100_000, why: 'lost' }, { lasts: 100_000, why: 'lost' }, { lasts: 100_000, why: 'lost' }, {}] });
  await s.time.pass(() => s.phases().filter((p) => p === 'connected').length === 4);
  assert.deepEqual(s.told.filter((x) => x.phase === 'again' && x.wait > 0).map((x) => x.wait), [500, 500, 500]);
  s.link.stop();
  await s.over;
});

test('a desktop that is stopped is watched until it runs again', async () => {
  const s = scene({ opens: [{ lasts: 10_000, why: 'desktop-stopping' }, {}], looks: [{ ...running, state: 'STOPPING', canConnect: false }, stopped, stopped, starting, running] });
  await s.time.pass(() => s.phases().filter((p) => p === 'connected').length === 2);
  assert.deepEqual(s.told.filter((x) => x.phase === 'waiting').map((x) => x.desktop.state), ['STOPPING', 'STOPPED', 'STOPPED', 'STARTING', 'AVAILABLE']);
  s.link.stop();
  await s.over;
});

test('a desktop that only says that it runs is not asked in a tight loop', async () => {
  const s = scene({ opens: [...Array(6).fill('not-running'), {}] });
  await s.time.pass(() => s.phases().at(-1) === 'connected');
  assert.ok(s.time.now() >= 500 + 1000 + 2000 + 4000 + 8000 + 10_000, String(s.time.now()));
  s.link.stop();
  await s.over;
});

test('a desktop that is gone is the end', async () => {
  const s = scene({ opens: [{ lasts: 10_000, why: 'desktop-ended' }], looks: [null] });
  await s.time.pass(() => s.told.at(-1).phase === 'ended');
  assert.equal(s.told.at(-1).why, 'no-desktop');
  s.link.stop();
  await s.over;
});

test('taken over is the end, and "use it here" is a new beginning', async () => {
  const s = scene({ opens: [{ lasts: 10, why: 'taken-over' }, {}] });
  await s.time.pass(() => s.told.at(-1).phase === 'ended');
  assert.equal(s.told.at(-1).why, 'taken-over');
  assert.equal(s.tickets.length, 1);
  s.link.hurry();
  await s.time.pass(() => s.phases().at(-1) === 'connected');
  assert.equal(s.tickets.length, 2);
  s.link.stop();
  await s.over;
});

test('a refusal is tried once more, because a ticket may have been too old', async () => {
  const s = scene({ opens: ['refused'] });
  await s.time.pass(() => s.told.at(-1).phase === 'ended');
  assert.equal(s.told.at(-1).why, 'refused');
  assert.equal(s.tickets.length, 2);
  s.link.stop();
  await s.over;
});

test('signed out is the end, from wherever it is heard', async () => {
  for (const parts of [
    { opens: [{ lasts: 10, why: 'signed-out' }] },
    { opens: [{}], ticket: () => { throw { code: 'signed-out' }; } },
    { opens: ['not-running'], looks: ['signed-out'] },
  ]) {
    const s = scene(parts);
    await s.time.pass(() => s.told.at(-1).phase === 'ended');
    assert.equal(s.told.at(-1).why, 'signed-out');
    await s.over;
  }
});

test('a network that is away while the desktop is watched is tried again', async () => {
  const s = scene({ opens: ['not-running', {}], looks: ['offline', running] });
  await s.time.pass(() => s.phases().at(-1) === 'connected');
  assert.ok(s.phases().includes('again'));
  s.link.stop();
  await s.over;
});

test('stopping closes the screen and says nothing more', async () => {
  const s = scene({ opens: [{}] });
  await s.time.pass(() => s.phases().at(-1) === 'connected');
  const before = s.told.length;
  s.link.stop();
  await s.over;
  assert.equal(s.told.length, before);
});

test('every reason of the gateway has a verdict', () => {
  const of = (list) => list.map(verdict);
  assert.deepEqual(of(['refused', 'unreachable', 'protocol', 'lost', 'busy', 'shutting-down', 'offline', 'something-new']), Array(8).fill('again'));
  assert.deepEqual(of(['not-running', 'desktop-ended', 'desktop-stopping', 'not-now']), Array(4).fill('watch'));
  assert.deepEqual(of(['taken-over', 'rule-changed', 'no-desktop', 'no-viewer']), Array(4).fill('final'));
  assert.equal(verdict('signed-out'), 'out');
  assert.equal(delay(0), 500);
  assert.equal(delay(99), 10_000);
});
