// The clipboard panel, and text that is copied by itself where the browser allows it. What may be copied which way is the gateway's
// decision; here it only decides what is shown.

import { byId, say } from './dom.mjs';
import { recall, remember } from './memory.mjs';
import { clipboard as allows, noClipboard } from './words.mjs';

// The gateway passes no more.
const longest = 256 << 10;
// Typing takes its time: this many characters need a minute and a half.
const longestTyped = 2000;
const there = 'It is on the desktop\'s clipboard now.';

export class ClipboardPanel {
  #allowed = allows('none');
  #send = () => {};
  #type = () => {};
  // confirms: the gateway says when a text is there, and that there is no clipboard; absent: it has said so.
  #confirms = false;
  #absent = false;
  #sent = false;
  #typable = () => true;
  // last is the text that both sides have.
  #last = null;

  // news is told when a text waits to be copied by hand.
  constructor(news) {
    this.news = news;
    this.text = byId('clip-text');
    byId('clip-send').addEventListener('click', () => this.#give(this.text.value));
    byId('clip-type').addEventListener('click', () => this.#typeIt(this.text.value));
    byId('clip-copy').addEventListener('click', () => this.#copy());
    byId('clip-auto').addEventListener('change', (event) => this.#automatic(event.target.checked));
    window.addEventListener('focus', () => this.#fetch());
  }

  // open begins a session: send puts text on the desktop's clipboard, type presses its keys, if typable() says that they are
  // where the page believes them. confirms: see is.
  open(policy, { send, type, confirms = false, typable = () => true }) {
    this.#typable = typable;
    this.#confirms = confirms;
    this.#allowed = allows(policy);
    this.#send = send;
    this.#type = type;
    this.#offer();
    this.#show();
    this.#fetch();
  }

  // refresh is for when another keyboard was chosen.
  refresh() {
    this.#offer();
  }

  #offer() {
    const { toDesktop, fromDesktop, text } = this.#allowed;
    say(byId('clip-says'), this.#absent && (toDesktop || fromDesktop) ? noClipboard : text);
    document.querySelector('#panel-clip .allowed').hidden = !toDesktop && !(fromDesktop && !this.#absent);
    byId('clip-send').hidden = !toDesktop || this.#absent;
    byId('clip-type').hidden = !toDesktop || !this.#typable();
    byId('clip-copy').hidden = !fromDesktop || this.#absent;
    this.text.readOnly = !toDesktop;
  }

  // is takes what the gateway says of the desktop's clipboard: 'ready', 'taken' when the text that was sent is on it, 'none' when there is none.
  is(state) {
    const absent = state === 'none';
    if (this.#sent && state !== 'ready') {
      this.#note(absent ? 'The desktop has not taken it.' : there);
      this.#sent = false;
      if (absent) this.#last = null;
    }
    const changed = absent !== this.#absent;
    this.#absent = absent;
    this.#offer();
    if (!changed) return;
    this.#show();
    this.#fetch();
  }

  // close ends a session; nothing of what was copied stays in the page.
  close() {
    this.#allowed = allows('none');
    this.#send = this.#type = () => {};
    this.#absent = this.#sent = false;
  }

  forget() {
    this.close();
    this.#last = null;
    this.text.value = '';
    byId('clip-note').textContent = '';
  }

  // arrived takes a text that was copied on the desktop.
  async arrived(text) {
    if (!this.#allowed.fromDesktop || text === this.#last) return;
    this.#last = text;
    this.text.value = text;
    if (await this.#auto()) {
      try {
        await navigator.clipboard.writeText(text);
        return;
      } catch {
        // The browser wants a click for it: the panel has a button.
      }
    }
    this.news();
  }

  #note(text) {
    byId('clip-note').textContent = text;
  }

  #give(text) {
    if (text === '' || !this.#allowed.toDesktop) return;
    if (new Blob([text]).size > longest) return this.#note('That is too long. 256 KiB is the most.');
    this.#last = text;
    this.#sent = this.#confirms;
    this.#note(this.#confirms ? 'Sending …' : there);
    this.#send(text);
  }

  #typeIt(text) {
    if (text.length > longestTyped) return this.#note(`That is too long to be typed. ${longestTyped} characters are the most.`);
    this.#note('');
    this.#type(text);
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.text.value);
    } catch {
      this.text.select();
      if (!document.execCommand('copy')) return this.#note('The browser does not allow it. Select the text and copy it.');
    }
    this.#last = this.text.value;
    this.#note('Copied.');
  }

  // permission is 'granted', 'prompt', 'denied', or '' in browsers that do not say.
  async #permission() {
    try {
      return (await navigator.permissions.query({ name: 'clipboard-read' })).state;
    } catch {
      return '';
    }
  }

  async #auto() {
    if (recall('clipboard') === 'by-hand') return false;
    return !this.#allowed.toDesktop || await this.#permission() === 'granted';
  }

  async #show() {
    byId('clip-auto-row').hidden = this.#absent || !navigator.clipboard?.writeText;
    byId('clip-auto').checked = await this.#auto();
  }

  async #automatic(on) {
    remember('clipboard', on ? '' : 'by-hand');
    this.#note('');
    if (!on) return;
    if (this.#allowed.toDesktop) {
      try {
        await navigator.clipboard.readText(); // The browser asks the person now.
      } catch {
        this.#note('The browser does not allow it. Use the buttons.');
      }
    }
    await this.#show();
    this.#fetch();
  }

  // fetch takes what was copied on this device, when the browser lets the page read it without asking.
  async #fetch() {
    if (!this.#allowed.toDesktop || this.#absent || !document.hasFocus() || recall('clipboard') === 'by-hand' || await this.#permission() !== 'granted') return;
    let text = '';
    try {
      text = await navigator.clipboard.readText();
    } catch {
      return; // Not text, or the focus is gone again.
    }
    if (text === '' || text === this.#last || new Blob([text]).size > longest) return;
    this.text.value = text;
    this.#last = text;
    this.#send(text);
  }
}
