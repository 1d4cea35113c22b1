// The view of a desktop: the picture, keys, pointer, clipboard, and everything that can happen to a connection.

import { colours, connected, desk, equal, expect, home, lever, shot, signIn, typed, until } from './help.mjs';

const ada = 'ws-000000001', grace = 'ws-000000002';
const canvas = '#stage canvas';

export const desktopScenarios = [
  ['the screen shows the desktop, fits the window, and takes keys and clicks', async (visit) => {
    const page = await desk(visit, 'ada', ada);
    await until(async () => await colours(page) > 8, 'pixels');
    await until(async () => { const s = await lever('size', { id: ada }); return s.Width === 1280 && s.Height === 800; }, 'the desktop has the window\'s size');
    await page.keyboard.type('Hello, World! {~}');
    await typed(ada, 'Hello, World! {~}');
    await until(async () => !(await page.locator('#tools.open').count()), 'the tools hide by themselves');
    await page.setViewportSize({ width: 1000, height: 700 });
    await until(async () => { const s = await lever('size', { id: ada }); return s.Width === 1000 && s.Height === 700; }, 'the desktop follows the window');
    await until(async () => /^(<?\d+) ms$/.test(await page.locator('#latency .ms').textContent()), 'the latency is shown');
    expect(['good', 'busy', 'bad'].includes(await page.locator('#latency').getAttribute('data-tone')), 'in a colour');
    await page.setViewportSize({ width: 1280, height: 800 });
    await until(async () => (await lever('size', { id: ada })).Width === 1280, 'the desktop follows the window back');
    await shot(page, 'desktop');
    await page.locator('#handle').click();
    await page.waitForTimeout(300);
    await shot(page, 'desktop-tools');
  }],

  ['special keys, held keys and the picture\'s settings', async (visit) => {
    const page = await desk(visit, 'ada', ada);
    const tool = async (name) => {
      if (!(await page.locator('#tools.open').count())) await page.locator('#handle').click();
      await page.getByRole('button', { name, exact: true }).click();
    };
    await page.keyboard.type('abc');
    await typed(ada, 'abc');
    await until(async () => await page.title() === 'Ada\'s desktop · Carrel', 'the name is found');
    await tool('Special keys');
    await shot(page, 'keys');
    // Ctrl held, then c: the terminal gives the line up.
    await page.getByRole('button', { name: 'Ctrl', exact: true }).click();
    equal(await page.getByRole('button', { name: 'Ctrl', exact: true }).getAttribute('aria-pressed'), 'true', 'Ctrl is held');
    await page.locator(canvas).click({ position: { x: 600, y: 600 } });
    await page.keyboard.press('c');
    await typed(ada, '^C');
    await tool('Special keys');
    await page.getByRole('button', { name: 'Ctrl', exact: true }).click();
    await page.keyboard.press('Escape');
    await tool('Picture');
    await shot(page, 'picture');
    await page.getByLabel('Fast').check();
    await page.getByLabel('As it is, scaled').check();
    await page.setViewportSize({ width: 900, height: 500 });
    await page.waitForTimeout(300);
    const size = await lever('size', { id: ada });
    expect(size.Width !== 900, 'of its own size');
    equal(await page.evaluate(() => ({ ...localStorage })).then((s) => [s['carrel.quality'], s['carrel.size']]), ['fast', 'keep'], 'what is remembered');
    const box = await page.locator(canvas).boundingBox();
    expect(box.width <= 900.5 && box.height <= 500.5 && Math.abs(box.width / box.height - size.Width / size.Height) < 0.01, 'scaled into the window');
  }],

  ['text is copied both ways, and no further than the policy goes', async (visit) => {
    const page = await desk(visit, 'ada', ada, { permissions: ['clipboard-read', 'clipboard-write'] });
    const open = async () => {
      if (!(await page.locator('#tools.open').count())) await page.locator('#handle').click();
      await page.getByRole('button', { name: 'Clipboard', exact: true }).click();
    };
    await open();
    await page.getByLabel('Text on the clipboard').fill('Grüße ☕ to the desktop');
    await page.getByRole('button', { name: 'Send to the desktop' }).click();
    await until(async () => (await lever('screen', { id: ada })).Clipboard === 'Grüße ☕ to the desktop', 'the text on the desktop');
    await shot(page, 'clipboard');
    // With permission, what is copied here is there without a click.
    await page.evaluate(() => navigator.clipboard.writeText('copied on this device'));
    await page.evaluate(() => window.dispatchEvent(new Event('focus')));
    await until(async () => (await lever('screen', { id: ada })).Clipboard === 'copied on this device', 'the text without a click');
    // What is copied on the desktop arrives on this device.
    await lever('copy', { id: ada, text: 'copied on the desktop' });
    await until(async () => await page.evaluate(() => navigator.clipboard.readText()) === 'copied on the desktop', 'the text on this device');
    equal(await page.getByLabel('Text on the clipboard').inputValue(), 'copied on the desktop', 'the text in the panel');
    await page.getByLabel('Text on the clipboard').fill('typed; Not pasted');
    await page.getByRole('button', { name: 'Type it there' }).click();
    await typed(ada, 'typed; Not pasted');
    await lever('clipboard', { to: 'from-desktop' });
    await page.reload();
    await connected(page);
    await open();
    await page.getByText('not to it.').waitFor();
    await lever('copy', { id: ada, text: 'still this way' });
    await until(async () => await page.getByLabel('Text on the clipboard').inputValue() === 'still this way', 'the text in the panel');
    expect(await page.getByLabel('Text on the clipboard').evaluate((e) => e.readOnly), 'read-only');
    equal(await page.getByRole('button', { name: 'Type it there' }).isVisible(), false, 'typing is offered');
    await lever('clipboard', { to: 'none' });
    await page.reload();
    await connected(page);
    await open();
    await page.getByText('does not let text be copied').waitFor();
    await lever('copy', { id: ada, text: 'not for you' });
    await page.waitForTimeout(300);
    equal(await page.locator('#clip-text').inputValue(), '', 'what was copied');
    equal(await page.locator('#clip-text').isVisible(), false, 'the field is there');
    await lever('clipboard', { to: 'both' });
  }],

  ['a desktop in which nothing answers is not said to have taken a text', async (visit) => {
    await lever('deaf', { to: 'yes' });
    const page = await desk(visit, 'ada', ada);
    if (!(await page.locator('#tools.open').count())) await page.locator('#handle').click();
    await page.getByRole('button', { name: 'Clipboard', exact: true }).click();
    await page.getByText('This desktop has no clipboard').waitFor();
    equal(await page.getByRole('button', { name: 'Send to the desktop' }).isVisible(), false, 'sending is offered');
    equal(await page.getByRole('button', { name: 'Copy to this device' }).isVisible(), false, 'copying is offered');
    await shot(page, 'no-clipboard');
    // Typing still is.
    await page.getByLabel('Text on the clipboard').fill('typed all the same');
    await page.getByRole('button', { name: 'Type it there' }).click();
    await typed(ada, 'typed all the same');
    await lever('deaf', { to: 'no' });
    await page.reload();
    await connected(page);
    if (!(await page.locator('#tools.open').count())) await page.locator('#handle').click();
    await page.getByRole('button', { name: 'Clipboard', exact: true }).click();
    await page.getByRole('button', { name: 'Send to the desktop' }).waitFor();
    equal(await page.getByText('This desktop has no clipboard').count(), 0, 'the old word');
  }],

  ['a dropped line comes back by itself, with the last picture meanwhile', async (visit) => {
    visit.mayBreak = true;
    const page = await desk(visit, 'ada', ada);
    await until(async () => await colours(page) > 8, 'pixels');
    const tickets = () => visit.addresses.filter((a) => a.endsWith('/connect')).length;
    const before = tickets();
    await lever('cable', { to: 'out' });
    await page.getByText('Reconnecting…').waitFor();
    await until(async () => await colours(page, '#last') > 8, 'the last picture stays');
    await page.getByText(/Try [2-9], in/).waitFor();
    await shot(page, 'reconnecting');
    await page.keyboard.type(' x'); // Goes nowhere, presses nothing.
    await lever('cable', { to: 'in' });
    await connected(page);
    expect(tickets() > before + 1, 'a fresh ticket each time');
    equal(await page.locator('#last').evaluate((c) => c.width), 0, 'the old picture is gone');
    await until(async () => await colours(page) > 8, 'pixels again');
    await page.keyboard.type('back again');
    await typed(ada, 'back again');
  }],

  ['the person can hurry a reconnection', async (visit) => {
    visit.mayBreak = true;
    const page = await desk(visit, 'ada', ada);
    await lever('cable', { to: 'out' });
    await page.getByRole('button', { name: 'Try now' }).waitFor();
    await lever('cable', { to: 'in' });
    const began = Date.now();
    await page.getByRole('button', { name: 'Try now' }).click();
    await connected(page);
    expect(Date.now() - began < 3500, 'quicker than the pause');
  }],

  ['another window takes over, and gives back', async (visit) => {
    const first = await desk(visit, 'ada', ada);
    const second = await desk(visit, 'ada', ada);
    await first.getByText('Open in another window').waitFor();
    await shot(first, 'taken-over');
    await first.waitForTimeout(800);
    equal(await second.locator('#viewer').getAttribute('data-phase'), 'connected', 'the second window');
    await first.getByRole('button', { name: 'Use it here' }).click();
    await connected(first);
    await second.getByText('Open in another window').waitFor();
    await first.keyboard.type('mine again');
    await typed(ada, 'mine again');
  }],

  ['a desktop that is stopped says so, is started from there, and comes back', async (visit) => {
    const page = await home(visit, 'grace');
    await page.getByRole('button', { name: /^(Connect|Start) Compiler desk/ }).click();
    await connected(page);
    await page.keyboard.type('before the stop');
    await typed(grace, 'before the stop');
    await lever('stop', { id: grace });
    await page.getByText('Compiler desk: stopping').waitFor();
    await page.getByText('Compiler desk: stopped').waitFor();
    await shot(page, 'stopped');
    await page.getByRole('button', { name: 'Start', exact: true }).click();
    await page.getByText('Compiler desk: starting').waitFor();
    await connected(page);
    await page.keyboard.type(' and after it');
    await typed(grace, 'before the stop and after it');
  }],

  ['signing out in one window ends the desktop in the other', async (visit) => {
    const page = await desk(visit, 'ada', ada);
    const list = await visit.another(page.context());
    await list.getByRole('button', { name: 'Sign out' }).click();
    await page.getByText('You have been signed out.').waitFor();
    equal(await page.locator('#stage').evaluate((e) => e.childElementCount), 0, 'elements of the screen');
    equal(await page.locator('#last').evaluate((c) => c.width), 0, 'the picture\'s width');
    // The next person does not land on the last one's desktop by accident, but the same one goes on.
    await signIn(page, 'ada');
    await connected(page);
  }],

  ['a rule that forbids it is said, and the picture is gone', async (visit) => {
    const page = await desk(visit, 'ada', ada);
    await lever('rule', { to: 'no' });
    await lever('cut', { id: ada, why: 'rule-changed' });
    await page.getByText('Your connection was ended').waitFor();
    equal(await page.locator('#last').evaluate((c) => c.width), 0, 'the picture\'s width');
    await page.getByRole('button', { name: 'Try again' }).click();
    await page.getByText('This desktop cannot be opened from here').waitFor();
    await shot(page, 'refused');
    await lever('rule', { to: 'yes' });
    await page.getByRole('button', { name: 'Try again' }).click();
    await connected(page);
  }],

  ['a dense display can be used to its last pixel', async (visit) => {
    const page = await desk(visit, 'ada', ada, { deviceScaleFactor: 2, viewport: { width: 900, height: 600 } });
    await until(async () => (await lever('size', { id: ada })).Width === 900, 'the usual size first');
    if (!(await page.locator('#tools.open').count())) await page.locator('#handle').click();
    await page.getByRole('button', { name: 'Picture', exact: true }).click();
    await page.getByLabel('Every pixel of this display').check();
    await until(async () => { const s = await lever('size', { id: ada }); return s.Width === 1800 && s.Height === 1200; }, 'twice the pixels');
    await until(async () => { const b = await page.locator(canvas).boundingBox(); return b.width === 900 && b.height === 600; }, 'on the same space');
    // A click lands where it is seen.
    await page.keyboard.press('Escape');
    await page.locator(canvas).click({ position: { x: 450, y: 590 } });
  }],

  ['full screen', async (visit) => {
    const page = await desk(visit, 'ada', ada);
    if (!(await page.locator('#tools.open').count())) await page.locator('#handle').click();
    await page.getByRole('button', { name: 'Full screen', exact: true }).click();
    await until(() => page.evaluate(() => Boolean(document.fullscreenElement)), 'full screen');
    await until(async () => await page.locator('[data-tool="full"]').getAttribute('aria-pressed') === 'true', 'the tool says so');
    await page.evaluate(() => document.exitFullscreen());
    await until(async () => await page.locator('[data-tool="full"]').getAttribute('aria-pressed') === 'false', 'out of it');
  }],

  ['without noVNC in the build the page says how to build it in', async (visit) => {
    const page = await visit.open();
    await page.context().route('**/vendor/novnc/**', (route) => route.fulfill({ status: 404, body: 'not found' }));
    await signIn(page, 'ada');
    await page.getByRole('button', { name: 'Connect Ada\'s desktop' }).click();
    await page.getByText('The viewer is missing').waitFor();
    await page.getByText('web/portal/assets').waitFor();
  }],
];
