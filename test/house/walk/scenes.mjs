// What a person does on a real desktop, scene by scene. Every scene goes on in the window of the one before.

import { createHash } from 'node:crypto';
import { colours, connected, equal, expect, secrets, shot, until } from '../../portal/walk/help.mjs';
import { canvas, change, keep, patient, settles, share, size, types } from './person.mjs';

// Colours of the image (internal/driver/image/rootfs): its wallpaper's sun, its panel, its terminal.
const sun = 0xe8c07d, panel = 0x1d2733, night = 0x171c22;
// The panel's height, and where its button for a terminal is.
const panelHeight = 26, launcher = { x: 42, fromBottom: 12 };

// terminal is the box of the terminal's text on the screen, once there is one.
let terminal = null;
// ground is the colour that it has now.
let ground = night;

async function fill(page, { code, user, password }) {
  secrets.push(password);
  if (code && await page.getByLabel('Registration code').isVisible()) await page.getByLabel('Registration code').fill(code);
  await page.getByLabel('User name').fill(user);
  await page.getByLabel('Password', { exact: true }).fill(password);
}

const pictured = (page) => until(async () => await colours(page) > 16 && await share(page, sun) > 0.002, 'the wallpaper of the guest', patient);

// coloured waits until the terminal's ground has a colour that its shell has computed.
async function coloured(page, colour, why) {
  await until(async () => await share(page, colour, terminal) > 0.6, `${why}: the terminal turns #${colour.toString(16).padStart(6, '0')}`, patient);
  ground = colour;
}

async function tool(page, name) {
  if (!(await page.locator('#tools.open').count())) await page.locator('#handle').click();
  await page.getByRole('button', { name, exact: true }).click();
}

export const scenes = {
  async refused(visit, given) {
    const page = await visit.open();
    page.context().setDefaultTimeout(patient);
    await fill(page, given);
    await shot(page, 'sign-in');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await until(async () => (await page.getByRole('alert').first().textContent()).includes('is not right'), 'the refusal is shown', patient);
    equal(await page.getByLabel('Password', { exact: true }).inputValue(), '', 'the password field');
  },

  async signsIn(visit, given) {
    const { page } = visit;
    await fill(page, given);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('No desktop yet').waitFor();
    equal(await page.locator('#who').textContent(), given.name, 'who is signed in');
  },

  async isGiven({ page }) {
    const began = performance.now();
    await page.getByRole('button', { name: /^Connect/ }).waitFor();
    equal(await page.locator('.desktop-card .label').textContent(), 'Ready', 'the state');
    await shot(page, 'desktops');
    return { waited: Math.round(performance.now() - began) };
  },

  async opens({ page }) {
    await page.getByRole('button', { name: /^Connect/ }).click();
    const began = performance.now();
    await connected(page);
    await pictured(page);
    const took = Math.round(performance.now() - began);
    await until(async () => /^(<?\d+) ms$/.test(await page.locator('#latency .ms').textContent()), 'the latency is shown', patient);
    // The desktop has the window's size: no bars, and the panel at its lower edge.
    await until(async () => { const { width, height } = await size(page); return width === 1280 && height === 800; }, 'the desktop fits the window', patient);
    await until(async () => await share(page, panel, { x: 0, y: 800 - panelHeight, width: 1280, height: panelHeight }) > 0.3, 'the panel', patient);
    return { pictured: took, latency: await page.locator('#latency .ms').textContent() };
  },

  // The terminal that the session begins with is closed, another opened and moved with the mouse: what has changed on the empty desktop is where
  // it is.
  async opensTerminal({ page }) {
    const { width, height } = await size(page), above = { x: 0, y: 0, width, height: height - panelHeight };
    await until(async () => await share(page, night, above) > 0.2, 'the first terminal, which the session opens', patient);
    await settles(page, above);
    await page.keyboard.press('Alt+F4');
    await until(async () => await share(page, night, above) === 0, 'the first terminal is closed', patient);
    await settles(page, above);
    await keep(page, 'empty');
    const window = async () => (await change(page, 'empty', above)).box ?? { x: 0, y: 0, width: 0, height: 0 };
    await page.locator(canvas).click({ position: { x: launcher.x, y: height - launcher.fromBottom } });
    await until(async () => { const box = await window(); return box.width > 500 && box.height > 300; }, 'a window opens', patient);
    await settles(page, above);
    const first = await window(), grip = { x: first.x + 300, y: first.y + 14 };
    await page.mouse.move(grip.x, grip.y);
    await page.mouse.down();
    await page.mouse.move(grip.x + 40, grip.y + 20);
    await page.mouse.move(grip.x + 80, grip.y + 50);
    await page.mouse.up();
    await until(async () => { const box = await window(); return Math.abs(box.x - first.x - 80) < 10 && Math.abs(box.y - first.y - 50) < 10; }, 'the window follows the mouse', patient);
    await settles(page, above);
    const box = await window();
    // Without its frame and title.
    terminal = { x: box.x + 12, y: box.y + 36, width: box.width - 24, height: box.height - 48 };
  },

  // Nothing moves while nobody types; what is typed is seen; and the shell computes a colour that nobody has typed.
  async types({ page }) {
    await keep(page, 'still');
    const end = performance.now() + 3000;
    while (performance.now() < end) {
      equal((await change(page, 'still', terminal)).count, 0, 'pixels that changed without typing');
      await page.waitForTimeout(100);
    }
    const began = performance.now();
    await types(page, 'e', terminal);
    const letter = Math.round(performance.now() - began);
    await types(page, 'cho "$(whoami), $((6 * 7))"; head -3 /etc/os-release\n', terminal);
    await settles(page, terminal);
    await types(page, 'k=$((0x0b1b1f * 3)); c() { printf \'\\033]11;#%06x\\007\' $1; }; c $k\n', terminal);
    await coloured(page, 0x0b1b1f * 3, 'the shell has multiplied');
    await settles(page, terminal);
    expect((await change(page, 'still', terminal)).share > 0.6, 'another picture than before');
    await page.mouse.move(1270, 400);
    await until(async () => !(await page.locator('#tools.open').count()), 'the tools hide by themselves', patient);
    await keep(page, 'typed');
    await shot(page, 'desktop');
    return { letter };
  },

  async takesOver(visit, given) {
    const { page } = visit;
    await settles(page, terminal);
    await keep(page, 'mine');
    const other = await visit.open();
    other.context().setDefaultTimeout(patient);
    await fill(other, given);
    await other.getByRole('button', { name: 'Sign in' }).click();
    await other.getByRole('button', { name: /^Connect/ }).click();
    await connected(other);
    await page.getByText('Open in another window').waitFor();
    await pictured(other);
    await until(async () => await share(other, ground, terminal) > 0.6, 'the same terminal in the other browser', patient);
    await page.getByRole('button', { name: 'Use it here' }).click();
    await connected(page);
    await other.getByText('Open in another window').waitFor();
    await until(async () => (await change(page, 'mine', terminal)).share < 0.01, 'the same picture as before', patient);
    await other.context().close();
    visit.contexts.splice(visit.contexts.indexOf(other.context()), 1);
  },

  async seesItStop(visit) {
    const { page } = visit;
    visit.mayBreak = true;
    await page.getByText(/: stopped$/).waitFor();
    await shot(page, 'stopped');
  },

  async startsIt({ page }) {
    await page.getByRole('button', { name: 'Start', exact: true }).click();
    const began = performance.now();
    await connected(page);
    await pictured(page);
    const took = Math.round(performance.now() - began);
    let differs = 1;
    await until(async () => { differs = (await change(page, 'typed', terminal)).share; return differs < 0.01; }, 'the terminal with what was typed before the stop', patient);
    await shot(page, 'resumed');
    // The same shell goes on: it still knows its variable.
    await types(page, 'c $((k + 0x101010))\n', terminal);
    await coloured(page, 0x0b1b1f * 3 + 0x101010, 'the shell remembers');
    return { pictured: took, differs };
  },

  // A text is typed there by the page; its checksum is a colour, so that not one key may be missing.
  async pastes({ page }) {
    await types(page, 'r() { read -r l; c 0x$(printf %s "$l" | md5sum | cut -c1-6); }; r\n', terminal);
    await settles(page, terminal);
    const text = 'Type it there: The Quick Brown Fox {jumps} over ~13 lazy dogs; '.repeat(4).trimEnd();
    await tool(page, 'Clipboard');
    await page.getByLabel('Text on the clipboard').fill(`${text}\n`);
    await page.getByRole('button', { name: 'Type it there' }).click();
    await coloured(page, parseInt(createHash('md5').update(text).digest('hex').slice(0, 6), 16), 'every key has arrived');
    await page.keyboard.press('Escape');
    await page.keyboard.press('Escape');
  },

  // A text is put on the desktop's clipboard, pasted with the mouse, and its checksum is a colour; then what the shell has printed is marked with the
  // mouse, which copies it in this terminal.
  async copies({ page }) {
    await types(page, 'r\n', terminal);
    await settles(page, terminal);
    const text = 'Grüße ☕ from this device, 4 × 4';
    await tool(page, 'Clipboard');
    await page.getByLabel('Text on the clipboard').fill(text);
    const began = performance.now();
    await page.getByRole('button', { name: 'Send to the desktop' }).click();
    await until(async () => (await page.locator('#clip-note').textContent()).includes('on the desktop\'s clipboard now'), 'the desktop says that it has the text', patient);
    const sent = Math.round(performance.now() - began);
    await page.keyboard.press('Escape');
    await page.keyboard.press('Escape');
    const middle = { x: terminal.x + terminal.width / 2, y: terminal.y + terminal.height / 2 };
    await keep(page, 'before');
    await page.mouse.click(middle.x, middle.y, { button: 'middle' });
    await until(async () => (await change(page, 'before', terminal)).count > 0, 'the text is pasted', patient);
    await settles(page, terminal);
    await page.keyboard.press('Enter');
    await coloured(page, parseInt(createHash('md5').update(text).digest('hex').slice(0, 6), 16), 'the text has arrived');
    await types(page, 'printf "\\033[2J\\033[H"; for i in 1 2 3 4 5; do echo "copied $((6 * 7))"; done\n', terminal);
    await settles(page, terminal);
    const value = () => page.locator('#clip-text').inputValue();
    await until(async () => {
      await page.mouse.move(terminal.x - 2, terminal.y + 30);
      await page.mouse.down();
      await page.mouse.move(terminal.x + 100, terminal.y + 30, { steps: 4 });
      await page.mouse.move(terminal.x + 400, terminal.y + 30, { steps: 4 });
      await page.mouse.up();
      for (let i = 0; i < 30 && await value() === text; i++) await page.waitForTimeout(100);
      return (await value()).trim() === 'copied 42';
    }, 'what was marked there is in the panel', patient);
    await shot(page, 'copied');
    return { sent };
  },

  // The keys that are Y and Z on one keyboard are Z and Y on another.
  async keyboards({ page }) {
    for (const [keyboard, written, typable] of [['German', 'zy', false], ['As the desktop is set', 'yz', true]]) {
      await tool(page, 'Special keys');
      await page.getByLabel('Your keyboard').selectOption({ label: keyboard });
      await page.getByRole('button', { name: 'Clipboard', exact: true }).click();
      equal(await page.getByRole('button', { name: 'Type it there' }).isVisible(), typable, `typing is offered with “${keyboard}”`);
      await page.keyboard.press('Escape');
      await page.keyboard.press('Escape');
      // Nothing says when the desktop has changed over: it is tried until it has.
      const colour = parseInt(createHash('md5').update(written).digest('hex').slice(0, 6), 16);
      await until(async () => {
        for (const key of ['r', 'Enter', 'y', 'z', 'Enter']) await page.keyboard.press(key, { delay: 20 });
        await settles(page, terminal);
        return await share(page, colour, terminal) > 0.6;
      }, `Y and Z are written as “${written}”`, patient);
      ground = colour;
    }
  },

  async resizes({ page }) {
    for (const [width, height] of [[1000, 700], [1280, 800]]) {
      await page.setViewportSize({ width, height });
      await until(async () => { const s = await size(page); return s.width === width && s.height === height; }, `the desktop is ${width} by ${height}`, patient);
      await until(async () => await share(page, panel, { x: width / 2, y: height - panelHeight, width: width / 2, height: panelHeight }) > 0.5, 'the panel at the edge', patient);
      await until(async () => await share(page, 0, { x: width - 200, y: 0, width: 200, height: height - panelHeight }) < 0.05, 'no black bar', patient);
    }
  },

  async signsOut(visit) {
    const { page } = visit;
    await tool(page, 'Disconnect');
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByText('You are signed out.').waitFor();
    equal(await page.locator('#stage').evaluate((e) => e.childElementCount), 0, 'elements of the screen that are left');
    await page.evaluate(() => { delete globalThis.kept; });
    await visit.innocent();
  },
};
