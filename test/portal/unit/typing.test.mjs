import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keysyms } from '../../../internal/webui/static/js/keys.mjs';
import { Typing } from '../../../internal/webui/static/js/typing.mjs';

// begin gives an on-screen keyboard before a screen that notes its keys: 'a' pressed and let go, '+Shift', '-Shift'.
function begin(t) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  globalThis.document = { activeElement: null };
  const hears = {};
  const field = { value: '', addEventListener: (type, fn) => { hears[type] = fn; }, setSelectionRange() {}, blur() {} };
  const keys = [];
  const name = (keysym, code) => code.replace('Left', '') || String.fromCodePoint(keysym);
  const screen = { sendKey: (keysym, code, down) => keys.push((down === undefined ? '' : down ? '+' : '-') + name(keysym, code)) };
  const typing = new Typing(field, () => {});
  typing.attach(screen);
  return { typing, keys, field, write: (text) => { field.value += text; hears.input(); } };
}

// pass lets time go by.
const pass = (t, ms) => { for (let i = 0; i < ms; i += 10) t.mock.timers.tick(10); };

test('a long text is typed in order, no faster than a guest takes it', (t) => {
  const { typing, keys } = begin(t);
  const text = 'Ab c\n'.repeat(100);
  typing.text(text);
  assert.deepEqual(keys, ['+Shift', 'A', '-Shift'], 'the first character at once');
  pass(t, 1000);
  const after = keys.length;
  assert.ok(after > 20 && after < 60, `${after} keys after a second: a machine's keyboard holds about as many`);
  pass(t, 30_000);
  const once = ['+Shift', 'A', '-Shift', 'b', ' ', 'c', String.fromCodePoint(keysyms.Enter)];
  assert.deepEqual(keys, Array.from({ length: 100 }, () => once).flat());
});

test('keys that are pressed meanwhile come after the text, held ones are let go after their key', (t) => {
  const { typing, keys, write } = begin(t);
  typing.hold('ControlLeft');
  write('c');
  typing.tap('Escape');
  typing.chord(['ControlLeft', 'AltLeft', 'Delete']);
  pass(t, 2000);
  assert.deepEqual(keys, ['+Control', 'c', '-Control', 'Escape', '+Control', '+Alt', '+Delete', '-Delete', '-Alt', '-Control']);
  assert.equal(typing.held, false);
});

test('what has not been typed when the screen goes is typed nowhere', (t) => {
  const { typing, keys } = begin(t);
  typing.text('secret for this desktop only');
  typing.attach(null);
  pass(t, 2000);
  assert.deepEqual(keys, ['s']);
  const next = [];
  typing.attach({ sendKey: (keysym) => next.push(keysym) });
  pass(t, 2000);
  assert.deepEqual(next, []);
  typing.text('x');
  assert.deepEqual(next, [0x78]);
});
