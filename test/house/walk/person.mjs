// Hands and eyes of a person before the screen of a real desktop: keys are pressed one after the other, Shift too, and what can be said of the
// picture is read from its pixels.

import { until } from '../../portal/walk/help.mjs';

export const canvas = '#stage canvas';

// patient is how long an emulated machine on a busy computer may take for something.
export const patient = 240_000;

const plain = '`1234567890-=[]\\;\',./', shifted = '~!@#$%^&*()_+{}|:"<>?';

// types presses the keys of a keyboard with the US layout. Like a person it looks up after a few keys whether they are there yet: a machine's
// keyboard drops what its guest does not take.
export async function types(page, text, box) {
  for (let i = 0; i < text.length; i += 8) {
    await keep(page, 'typing');
    for (const character of text.slice(i, i + 8)) await press(page, character);
    await until(async () => (await change(page, 'typing', box)).count > 0, `“${text.slice(i, i + 8)}” is seen`, patient);
  }
}

async function press(page, character) {
  const at = shifted.indexOf(character), upper = character >= 'A' && character <= 'Z';
  const key = character === '\n' ? 'Enter' : character === ' ' ? 'Space' : at >= 0 ? plain[at] : character.toLowerCase();
  if (at >= 0 || upper) await page.keyboard.down('Shift');
  await page.keyboard.press(key, { delay: 20 });
  if (at >= 0 || upper) await page.keyboard.up('Shift');
}

// keep remembers the picture of now in the page, where it is lost when the page is loaded anew.
export const keep = (page, name) => page.evaluate(([s, n]) => {
  const c = document.querySelector(s);
  globalThis.kept ??= {};
  globalThis.kept[n] = c.getContext('2d').getImageData(0, 0, c.width, c.height);
}, [canvas, name]);

// change compares the picture of now with a kept one, in a box or all of it: { count, share, box } of the pixels that clearly differ. Small
// differences are those of compression.
export const change = (page, name, box) => page.evaluate(([s, n, within]) => {
  const c = document.querySelector(s), old = globalThis.kept?.[n];
  if (!old) throw new Error(`the page no longer knows the picture “${n}”`);
  if (!c || c.width !== old.width || c.height !== old.height) return { count: Infinity, share: 1, box: null };
  const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);
  const { x, y, width, height } = within ?? { x: 0, y: 0, width: c.width, height: c.height };
  let count = 0, left = Infinity, top = Infinity, right = -1, bottom = -1;
  for (let j = y; j < y + height; j++) {
    for (let i = x; i < x + width; i++) {
      const at = 4 * (j * c.width + i);
      if (Math.max(Math.abs(data[at] - old.data[at]), Math.abs(data[at + 1] - old.data[at + 1]), Math.abs(data[at + 2] - old.data[at + 2])) <= 40) continue;
      count++;
      left = Math.min(left, i);
      top = Math.min(top, j);
      right = Math.max(right, i);
      bottom = Math.max(bottom, j);
    }
  }
  return { count, share: count / (width * height), box: count > 0 ? { x: left, y: top, width: right - left + 1, height: bottom - top + 1 } : null };
}, [canvas, name, box]);

// share tells how much of a box, or of all, has a colour (0xrrggbb), as near to it as compression leaves it.
export const share = (page, colour, box) => page.evaluate(([s, rgb, within]) => {
  const c = document.querySelector(s);
  if (!c || c.width === 0) return 0;
  const { x, y, width, height } = within ?? { x: 0, y: 0, width: c.width, height: c.height };
  const { data } = c.getContext('2d').getImageData(x, y, width, height);
  let count = 0;
  for (let at = 0; at < data.length; at += 4) {
    if (Math.abs(data[at] - (rgb >> 16)) <= 8 && Math.abs(data[at + 1] - (rgb >> 8 & 255)) <= 8 && Math.abs(data[at + 2] - (rgb & 255)) <= 8) count++;
  }
  return count / (width * height);
}, [canvas, colour, box]);

export const size = (page) => page.evaluate((s) => { const c = document.querySelector(s); return c ? { width: c.width, height: c.height } : { width: 0, height: 0 }; }, canvas);

// settles waits until the picture, or a box of it, has not changed for a while; nothing else tells that a desktop has done its drawing.
export async function settles(page, box) {
  await until(async () => {
    await keep(page, 'settling');
    for (let i = 0; i < 10; i++) {
      await page.waitForTimeout(150);
      if ((await change(page, 'settling', box)).count > 0) return false;
    }
    return true;
  }, 'the picture comes to rest', patient);
}
