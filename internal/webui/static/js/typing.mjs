// The on-screen keyboard of phones and tablets, and keys that are held down by the tools. A hidden text field takes what the keyboard
// writes; what changes in it is sent as keys.

import { change, keysymOf, keysyms, shifted } from './keys.mjs';

// A machine's keyboard holds a few dozen keys that its guest has not taken yet, and drops the others. One character in this many milliseconds
// leaves a guest that is busy for a moment the time to take them all.
const pace = 40;

// The field is never empty, so that the keyboard's backspace always has something to take away.
const ground = '_'.repeat(64);

export class Typing {
  #field;
  #before = ground;
  #screen = null;
  #held = new Map();
  #waiting = [];
  #timer = null;

  // toggled is told when the on-screen keyboard comes or goes, and when keys are held or let go.
  constructor(field, toggled) {
    this.#field = field;
    this.toggled = toggled;
    field.addEventListener('input', () => this.#changed());
    field.addEventListener('keydown', (event) => this.#key(event));
    field.addEventListener('blur', () => this.#hidden());
    this.#clear();
  }

  get on() { return document.activeElement === this.#field; }
  get held() { return this.#held.size > 0; }

  // attach gives the screen that keys go to; null: none.
  attach(screen) {
    this.#held.clear();
    this.#waiting = [];
    this.#screen = screen;
    this.toggled();
  }

  show() {
    if (!this.#screen) return;
    this.#clear();
    this.#screen.focusOnClick = false; // Pointing must not close the keyboard.
    this.#field.focus({ preventScroll: true });
    this.toggled();
  }

  hide() {
    this.#field.blur();
  }

  #hidden() {
    if (this.#screen) this.#screen.focusOnClick = true;
    this.toggled();
  }

  #clear() {
    this.#field.value = this.#before = ground;
    this.#field.setSelectionRange(ground.length, ground.length);
  }

  #changed() {
    const now = this.#field.value;
    const { gone, written } = change(this.#before, now);
    this.#before = now;
    for (let i = 0; i < gone; i++) this.#later((screen) => screen.sendKey(keysyms.Backspace, 'Backspace'));
    this.text(written);
    if (gone + written.length > 0) this.#later(() => this.letGo());
    // A word that is still being guessed must not be taken from under the keyboard.
    if (now.length > 400 || now.length < 16) this.#clear();
  }

  #key(event) {
    if (event.isComposing || !(event.key in keysyms) || event.key === 'Backspace') return;
    event.preventDefault();
    event.stopPropagation();
    this.tap(event.key);
    if (event.key === 'Enter') this.#clear();
  }

  // later sends keys when those before them have been sent, at a pace that loses none.
  #later(send) {
    this.#waiting.push(send);
    if (this.#timer === null) this.#next();
  }

  #next() {
    const send = this.#waiting.shift();
    this.#timer = send ? setTimeout(() => this.#next(), pace) : null;
    if (send && this.#screen) send(this.#screen);
  }

  // tap presses a key together with those that are held, and lets them go.
  tap(code) {
    this.#later((screen) => {
      screen.sendKey(keysyms[code], code);
      this.letGo();
    });
  }

  // chord presses keys together.
  chord(codes) {
    this.#later((screen) => {
      for (const code of codes) screen.sendKey(keysyms[code], code, true);
      for (const code of codes.toReversed()) screen.sendKey(keysyms[code], code, false);
    });
  }

  // text types a text, key by key.
  text(text) {
    for (const character of text.replaceAll('\r\n', '\n')) {
      const keysym = keysymOf(character);
      if (keysym === 0) continue;
      this.#later((screen) => {
        const shift = shifted(character) && !this.#held.has('ShiftLeft');
        if (shift) screen.sendKey(keysyms.ShiftLeft, 'ShiftLeft', true);
        screen.sendKey(keysym, '');
        if (shift) screen.sendKey(keysyms.ShiftLeft, 'ShiftLeft', false);
      });
    }
  }

  isHeld(code) { return this.#held.has(code); }

  // hold presses a key and keeps it down until it is held again or another key is tapped.
  hold(code) {
    if (this.#held.delete(code)) this.#screen?.sendKey(keysyms[code], code, false);
    else {
      this.#held.set(code, true);
      this.#screen?.sendKey(keysyms[code], code, true);
    }
    this.toggled();
  }

  letGo() {
    if (!this.held) return;
    for (const code of this.#held.keys()) this.#screen?.sendKey(keysyms[code], code, false);
    this.#held.clear();
    this.toggled();
  }
}
