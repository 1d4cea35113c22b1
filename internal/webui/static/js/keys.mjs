// Keys that the page itself sends: X11 keysyms (keysymdef.h) with the codes of UI Events, and what an on-screen keyboard has typed.

export const keysyms = {
  ControlLeft: 0xffe3, AltLeft: 0xffe9, ShiftLeft: 0xffe1, MetaLeft: 0xffeb,
  Escape: 0xff1b, Tab: 0xff09, Enter: 0xff0d, Backspace: 0xff08, Delete: 0xffff, PrintScreen: 0xff61,
  Home: 0xff50, End: 0xff57, PageUp: 0xff55, PageDown: 0xff56,
  ArrowLeft: 0xff51, ArrowUp: 0xff52, ArrowRight: 0xff53, ArrowDown: 0xff54,
};
for (let n = 1; n <= 12; n++) keysyms[`F${n}`] = 0xffbd + n;

// keysymOf gives a character's keysym: Latin-1 as it is, everything else as Unicode (X11 protocol, appendix A).
export function keysymOf(character) {
  const point = character.codePointAt(0);
  if (character === '\n' || character === '\r') return keysyms.Enter;
  if (character === '\t') return keysyms.Tab;
  if (point >= 0x20 && point <= 0x7e || point >= 0xa0 && point <= 0xff) return point;
  return point < 0x20 ? 0 : 0x01000000 + point;
}

// shifted tells whether a character needs the Shift key. A machine's keyboard has keys and not letters: QEMU looks up the key of a keysym
// and leaves Shift to whoever presses it.
export const shifted = (character) => /^[A-Z~!@#$%^&*()_+{}|:"<>?]$/.test(character);

// change tells what turned one text into another: how many characters were taken away at its end, and what was written instead.
// On-screen keyboards send no keys, they rewrite the text as they guess words.
export function change(before, after) {
  const a = Array.from(before), b = Array.from(after);
  let same = 0;
  while (same < a.length && same < b.length && a[same] === b[same]) same++;
  return { gone: a.length - same, written: b.slice(same).join('') };
}
