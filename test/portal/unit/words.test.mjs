import assert from 'node:assert/strict';
import { test } from 'node:test';
import { change, keysymOf, keysyms, shifted } from '../../../internal/webui/static/js/keys.mjs';
import { density, quality } from '../../../internal/webui/static/js/picture.mjs';
import { Poll } from '../../../internal/webui/static/js/poll.mjs';
import { clipboard, drop, end, latency, minutes, state } from '../../../internal/webui/static/js/words.mjs';

test('every state of the API has plain words', () => {
  for (const name of ['PENDING', 'AVAILABLE', 'IMPAIRED', 'UNHEALTHY', 'REBOOTING', 'STARTING', 'REBUILDING', 'RESTORING', 'MAINTENANCE', 'ADMIN_MAINTENANCE', 'TERMINATING',
    'TERMINATED', 'SUSPENDED', 'UPDATING', 'STOPPING', 'STOPPED', 'ERROR']) {
    const s = state({ state: name });
    assert.ok(s.label && !s.label.includes('_') && s.label !== name, name);
    assert.ok(['good', 'busy', 'off', 'bad'].includes(s.tone));
  }
  assert.equal(state({ state: 'SOMETHING_NEW' }).label, 'Something new');
  assert.equal(state({ state: 'ERROR', detail: 'No room.' }).sentence, 'No room.');
  assert.ok(state({ state: 'STARTING' }).changing && !state({ state: 'STOPPED' }).changing);
});

test('every end and every drop has words', () => {
  for (const why of ['taken-over', 'rule-changed', 'refused', 'no-desktop', 'gave-up', 'broken', 'no-viewer', 'something-new']) assert.ok(end(why).title && end(why).text);
  for (const why of ['unreachable', 'shutting-down', 'busy', 'protocol', 'offline', 'lost']) assert.ok(drop(why));
  assert.equal(end('taken-over').go, 'Use it here');
});

test('latency has a colour and can be heard', () => {
  assert.deepEqual(latency(12.4), { text: '12 ms', tone: 'good', spoken: 'Latency 12 milliseconds, good' });
  assert.equal(latency(0.3).text, '<1 ms');
  assert.equal(latency(100).tone, 'busy');
  assert.equal(latency(400).tone, 'bad');
  assert.equal(latency(NaN).text, '');
});

test('the clipboard follows the policy, and nothing is the default', () => {
  assert.deepEqual(['both', 'to-desktop', 'from-desktop', 'none', 'x', undefined].map((p) => [clipboard(p).toDesktop, clipboard(p).fromDesktop]),
    [[true, true], [true, false], [false, true], [false, false], [false, false], [false, false]]);
});

test('minutes are rounded up', () => {
  assert.deepEqual([1, 89, 90, 600].map(minutes), ['a minute', 'a minute', '2 minutes', '10 minutes']);
});

test('characters have keysyms', () => {
  assert.equal(keysymOf('a'), 0x61);
  assert.equal(keysymOf('é'), 0xe9);
  assert.equal(keysymOf('€'), 0x010020ac);
  assert.equal(keysymOf('😀'), 0x0101f600);
  assert.equal(keysymOf('\n'), keysyms.Enter);
  assert.equal(keysymOf('\u0007'), 0);
  assert.equal(keysyms.F1, 0xffbe);
  assert.equal(keysyms.F12, 0xffc9);
  assert.deepEqual([...'aA1!/?-_'].map(shifted), [false, true, false, true, false, true, false, true]);
});

test('what an on-screen keyboard rewrites becomes keys', () => {
  assert.deepEqual(change('__', '__h'), { gone: 0, written: 'h' });
  assert.deepEqual(change('__helo', '__hello '), { gone: 1, written: 'lo ' });
  assert.deepEqual(change('__a', '__'), { gone: 1, written: '' });
  assert.deepEqual(change('__', '_'), { gone: 1, written: '' });
  assert.deepEqual(change('_😀', '_😁'), { gone: 1, written: '😁' });
});

test('the picture follows preference and line', () => {
  assert.equal(quality('best', 500).quality, 9);
  assert.equal(quality('fast', 1).quality, 2);
  const auto = [NaN, 10, 100, 200, 900].map((ms) => quality('auto', ms).quality);
  assert.deepEqual(auto, [6, 8, 6, 4, 2]);
});

test('a narrow window shows more than its own pixels, but never more than the display has', () => {
  assert.equal(density('window', 1280, 2), 1);
  assert.equal(density('window', 360, 3), 2);
  assert.equal(density('window', 360, 1), 1);
  assert.equal(density('sharp', 1280, 2), 2);
  assert.equal(density('keep', 1280, 2), 0);
});

test('a poll looks only while the page is seen, and never twice at once', async () => {
  const listeners = [];
  const document = { hidden: false, addEventListener: (_, fn) => listeners.push(fn) };
  let looks = 0, inside = 0;
  const poll = new Poll(async () => {
    assert.equal(++inside, 1);
    looks++;
    await null;
    inside--;
    return 3_600_000;
  }, { document });
  await poll.start();
  assert.equal(looks, 1);
  const both = [poll.now(), poll.now()];
  await Promise.all(both);
  assert.equal(looks, 3);
  document.hidden = true;
  await poll.now();
  assert.equal(looks, 3);
  document.hidden = false;
  listeners.forEach((fn) => fn());
  await new Promise((resolve) => { setTimeout(resolve); });
  assert.equal(looks, 4);
  poll.stop();
  await poll.now();
  assert.equal(looks, 4);
});
