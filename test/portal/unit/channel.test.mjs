import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Channel, protocol } from '../../../internal/webui/static/js/channel.mjs';

// Socket is a WebSocket that the test speaks on.
class Socket {
  static last = null;
  readyState = 0;
  sent = [];
  constructor(url, protocols) {
    Object.assign(this, { url, protocols });
    Socket.last = this;
  }
  send(data) { this.sent.push(data); }
  close() { this.readyState = 3; }
  opens() { this.readyState = 1; this.onopen(); }
  says(data) { this.onmessage?.({ data }); }
  closes(code, reason) { this.readyState = 3; this.onclose?.({ code, reason }); }
}

const soon = () => new Promise((resolve) => { setTimeout(resolve); });
const hello = '{"type":"open","title":"d","viewOnly":false,"clipboard":"both"}';
const begin = (note = () => {}) => Channel.open('wss://h/api/screen', 'secret', note, { WebSocket: Socket });

async function opened(note) {
  const coming = begin(note);
  Socket.last.opens();
  Socket.last.says(hello);
  return [await coming, Socket.last];
}

test('the ticket is the first message and never in the address', async () => {
  const [channel, socket] = await opened();
  assert.deepEqual(socket.protocols, [protocol]);
  assert.equal(socket.url, 'wss://h/api/screen');
  assert.deepEqual(socket.sent, ['{"ticket":"secret"}']);
  assert.equal(channel.hello.clipboard, 'both');
  channel.close();
});

test('what comes before noVNC listens waits for it, in order, and notes go elsewhere', async () => {
  const notes = [], got = [];
  const [channel, socket] = await opened((n) => notes.push(n));
  const picture = (n) => new Uint8Array([n]).buffer;
  socket.says(picture(1));
  socket.says('{"type":"latency","milliseconds":12.5}');
  socket.says(picture(2));
  channel.onmessage = (event) => got.push(new Uint8Array(event.data)[0]);
  assert.deepEqual(got, [], 'noVNC was not ready');
  socket.says(picture(3));
  await soon();
  socket.says(picture(4));
  assert.deepEqual(got, [1, 2, 3, 4]);
  assert.deepEqual(notes, [{ type: 'latency', milliseconds: 12.5 }]);
  assert.equal(channel.bytes, 4);
  channel.close();
});

test('the gateway\'s reason is the reason, everything else is a lost line', async () => {
  for (const [code, reason, want] of [[4000, 'taken-over', 'taken-over'], [4000, '', 'lost'], [1006, '', 'lost'], [1011, 'taken-over', 'lost']]) {
    const [channel, socket] = await opened();
    const order = [];
    channel.ending = () => order.push('ending');
    channel.onclose = () => order.push('noVNC');
    socket.closes(code, reason);
    assert.equal(await channel.closed, want);
    assert.deepEqual(order, ['ending', 'noVNC'], 'the picture is kept before noVNC takes it away');
    assert.equal(channel.readyState, 3);
  }
});

test('a ticket that is not taken is told with the reason', async () => {
  const coming = begin();
  Socket.last.opens();
  Socket.last.closes(4000, 'refused');
  await assert.rejects(coming, { code: 'refused' });
});

test('words that are not notes change nothing', async () => {
  const coming = begin(() => assert.fail('a note'));
  Socket.last.opens();
  Socket.last.says('not json');
  Socket.last.says('null');
  Socket.last.says('{"type":"latency","milliseconds":1}');
  Socket.last.says(hello);
  (await coming).close();
});

test('nothing is sent on a channel that is over', async () => {
  const [channel, socket] = await opened();
  channel.close();
  channel.send(new Uint8Array(1));
  assert.equal(socket.sent.length, 1);
  assert.equal(await channel.closed, 'closed');
});

test('it has everything noVNC looks for in a WebSocket', async () => {
  const [channel] = await opened();
  const has = [...Object.keys(channel), ...Object.getOwnPropertyNames(Object.getPrototypeOf(channel))];
  for (const name of ['send', 'close', 'binaryType', 'onerror', 'onmessage', 'onopen', 'protocol', 'readyState']) assert.ok(has.includes(name), name);
  channel.close();
});

test('a line that has gone silent is given up, but not because the page slept', async (t) => {
  let now = 1000;
  t.mock.method(performance, 'now', () => now);
  t.mock.timers.enable({ apis: ['setInterval'] });
  const pass = (ms, step = 1000) => {
    for (let gone = 0; gone < ms; gone += step) {
      now += step;
      t.mock.timers.tick(1000);
    }
  };
  const [channel, socket] = await opened();
  pass(60_000);
  assert.equal(channel.readyState, 1, 'a gateway that does not measure may be silent');
  socket.says('{"type":"latency","milliseconds":3}');
  pass(9000);
  socket.says(new ArrayBuffer(1));
  pass(9000);
  now += 3_600_000; // The lid was closed for an hour.
  pass(1000);
  assert.equal(channel.readyState, 1);
  pass(11_000);
  assert.equal(await channel.closed, 'lost');
});
