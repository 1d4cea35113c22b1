// Which keyboard the person has. Keys go to the desktop by where they are on it, so the desktop must have its layout; this device remembers it.

import { byId } from './dom.mjs';
import { recall, remember } from './memory.mjs';

export class KeyboardChoice {
  #tell = () => {};

  // changed is told when another keyboard was chosen.
  constructor(changed) {
    this.row = byId('keyboard-row');
    this.choice = byId('keyboard');
    const kept = recall('keyboard');
    this.choice.value = kept;
    if (this.choice.value !== kept) this.choice.value = '';
    this.choice.addEventListener('change', () => {
      remember('keyboard', this.choice.value);
      this.#say();
      changed();
    });
    this.close();
  }

  // open begins a session: tell(word) speaks to the gateway. Nothing is chosen until the desktop says that it listens.
  open(tell) {
    this.#tell = tell;
  }

  // is takes what the gateway says of the desktop's session: 'none' when nobody in it listens.
  is(state) {
    const was = this.row.hidden;
    this.row.hidden = state === 'none';
    if (was && !this.row.hidden) this.#say();
  }

  close() {
    this.#tell = () => {};
    this.row.hidden = true;
  }

  // typable tells whether the page, which presses the keys of a US keyboard, can type.
  get typable() {
    return this.row.hidden || this.choice.value === '' || this.choice.value === 'us';
  }

  #say() {
    this.#tell({ keyboard: this.choice.value || 'default' });
  }
}
