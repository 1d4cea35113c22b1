// The tools over a desktop: a bar that hides itself, its panels, full screen, and the way to it with the keyboard alone.

import { byId, icon, toast } from './dom.mjs';
import { recall, remember } from './memory.mjs';
import { latency as latencyWords } from './words.mjs';

// The bar hides this long after it was last used.
const linger = 3000;

export class Toolbar {
  #root = byId('tools');
  #bar = byId('toolbar');
  #handle = byId('handle');
  #open = false;
  #panel = '';
  #timer = null;
  #chord = false;

  // on has: leave(), focus() the desktop, changed() of the picture's preferences. typing and clipboard are the parts behind two tools.
  constructor({ on, typing }) {
    this.on = on;
    this.typing = typing;
    this.#functions();
    for (const button of this.#bar.querySelectorAll('[data-tool]')) button.addEventListener('click', () => this.#tool(button.dataset.tool));
    this.#handle.addEventListener('click', () => (this.#open ? this.hide() : this.show()));
    for (const button of document.querySelectorAll('[data-key]')) button.addEventListener('click', () => typing.tap(button.dataset.key));
    for (const button of document.querySelectorAll('[data-chord]')) button.addEventListener('click', () => typing.chord(button.dataset.chord.split(' ')));
    for (const button of document.querySelectorAll('[data-hold]')) button.addEventListener('click', () => typing.hold(button.dataset.hold));
    this.#preferences();
    // The tools are a place that a mouse or the focus is in, or is not.
    for (const type of ['pointerenter', 'focusin']) this.#root.addEventListener(type, () => this.#stay());
    for (const type of ['pointerleave', 'focusout']) this.#root.addEventListener(type, () => this.#leaveSoon());
    this.#root.addEventListener('keydown', (event) => this.#key(event));
    // A finger that presses a key must not take the focus from the on-screen keyboard.
    this.#root.addEventListener('pointerdown', (event) => {
      if (typing.on && event.target.closest('[data-key], [data-hold], [data-chord], [data-tool="typing"]')) event.preventDefault();
    });
    byId('stage').addEventListener('pointerdown', () => this.hide(), { capture: true });
    document.addEventListener('fullscreenchange', () => this.#fullChanged());
    byId('tools').querySelector('[data-tool="full"]').hidden = !document.fullscreenEnabled;
    this.hide();
  }

  // begin is called when a desktop is shown, end when it no longer is.
  begin(name) {
    byId('tools-name').textContent = name;
    this.latency(NaN);
    this.mark('clip', false);
    this.keys = (event) => this.#wayIn(event);
    for (const type of ['keydown', 'keyup']) window.addEventListener(type, this.keys, { capture: true });
  }

  end() {
    for (const type of ['keydown', 'keyup']) window.removeEventListener(type, this.keys, { capture: true });
    this.hide();
    byId('tools-name').textContent = '';
    if (document.fullscreenElement) document.exitFullscreen().catch(() => {});
  }

  show() {
    this.#open = true;
    this.#bar.inert = false;
    this.#root.classList.add('open');
    this.#handle.setAttribute('aria-expanded', 'true');
    this.#leaveSoon();
  }

  hide() {
    const inside = this.#root.contains(document.activeElement) && document.activeElement !== this.#handle;
    this.#openPanel('');
    this.#open = false;
    clearTimeout(this.#timer);
    this.#root.classList.remove('open');
    this.#handle.setAttribute('aria-expanded', 'false');
    if (inside) this.on.focus();
    this.#bar.inert = true;
  }

  latency(ms) {
    const words = latencyWords(ms), at = byId('latency');
    at.dataset.tone = words.tone;
    at.title = words.spoken;
    at.setAttribute('aria-label', words.spoken);
    at.querySelector('.ms').textContent = words.text;
  }

  // mark puts a dot on a tool: there is something to see behind it.
  mark(tool, on) {
    this.#button(tool).classList.toggle('marked', on);
  }

  // refresh shows which keys are held and whether the on-screen keyboard is open.
  refresh() {
    for (const button of document.querySelectorAll('[data-hold]')) button.setAttribute('aria-pressed', String(this.typing.isHeld(button.dataset.hold)));
    this.mark('keys', this.typing.held);
    this.#button('typing').setAttribute('aria-pressed', String(this.typing.on));
  }

  #button(tool) { return this.#bar.querySelector(`[data-tool="${tool}"]`); }

  #functions() {
    for (let n = 1; n <= 12; n++) {
      const button = document.createElement('button');
      button.type = 'button';
      button.dataset.key = button.textContent = `F${n}`;
      byId('functions').append(button);
    }
  }

  #tool(tool) {
    switch (tool) {
      case 'typing':
        return this.typing.on ? this.typing.hide() : this.typing.show();
      case 'full':
        return this.#full();
      case 'leave':
        return this.on.leave();
    }
    return this.#openPanel(this.#panel === tool ? '' : tool);
  }

  // openPanel opens one panel, '' none.
  #openPanel(panel) {
    this.#panel = panel;
    for (const name of ['keys', 'clip', 'view']) {
      byId(`panel-${name}`).hidden = name !== panel;
      this.#button(name).setAttribute('aria-expanded', String(name === panel));
    }
    if (panel === 'clip') this.mark('clip', false);
    if (panel !== '') this.#stay();
    else this.#leaveSoon();
  }

  #stay() {
    clearTimeout(this.#timer);
  }

  #leaveSoon() {
    clearTimeout(this.#timer);
    if (!this.#open) return;
    this.#timer = setTimeout(() => {
      if (this.#panel === '' && !this.#root.matches(':hover') && !this.#bar.contains(document.activeElement)) this.hide();
    }, linger);
  }

  #key(event) {
    if (event.key === 'Escape') {
      event.preventDefault();
      if (this.#panel === '') return this.hide();
      const tool = this.#button(this.#panel);
      this.#openPanel('');
      return tool.focus();
    }
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !this.#bar.contains(event.target)) return undefined;
    const all = [...this.#bar.querySelectorAll('button')].filter((b) => b.offsetParent !== null);
    event.preventDefault();
    return all.at((all.indexOf(event.target) + step) % all.length).focus();
  }

  // Ctrl, Alt and Shift together, and then let go, lead from the desktop to the tools. The third of them is kept from the desktop; the
  // focus moves when all are up again, so that no key stays pressed over there.
  #wayIn(event) {
    if (event.type === 'keydown') {
      const modifier = ['Control', 'Alt', 'Shift'].includes(event.key);
      this.#chord = modifier && event.ctrlKey && event.altKey && event.shiftKey;
      if (this.#chord) event.stopPropagation();
      return;
    }
    if (!this.#chord || event.ctrlKey || event.altKey || event.shiftKey) return;
    this.#chord = false;
    this.show();
    // After noVNC has seen this last key go up.
    setTimeout(() => this.#button('keys').focus());
  }

  async #full() {
    try {
      if (document.fullscreenElement) return await document.exitFullscreen();
      await document.documentElement.requestFullscreen({ navigationUI: 'hide' });
      // So that Esc, Alt+Tab and the like reach the desktop, where the browser can.
      await navigator.keyboard?.lock?.();
      if (navigator.keyboard?.lock) toast('Hold Esc to leave full screen.');
    } catch {
      // The browser or the person did not want it.
    }
    return this.on.focus();
  }

  #fullChanged() {
    const on = Boolean(document.fullscreenElement), button = this.#button('full');
    if (!on) navigator.keyboard?.unlock?.();
    button.setAttribute('aria-pressed', String(on));
    button.title = on ? 'Leave full screen' : 'Full screen';
    icon(button, on ? 'window' : 'full');
  }

  #preferences() {
    for (const [name, otherwise] of [['quality', 'auto'], ['size', 'window']]) {
      const inputs = [...document.querySelectorAll(`input[name="${name}"]`)];
      const kept = recall(name);
      (inputs.find((i) => i.value === kept) ?? inputs.find((i) => i.value === otherwise)).checked = true;
      for (const input of inputs) {
        input.addEventListener('change', () => {
          remember(name, input.value === otherwise ? '' : input.value);
          this.on.changed();
        });
      }
    }
  }
}

// preference gives what is chosen for 'quality' or 'size'.
export const preference = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
