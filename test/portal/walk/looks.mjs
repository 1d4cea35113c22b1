// How it looks: a phone, the dark, and what people who cannot see it are told.

import { connected, desk, equal, expect, lever, shot, signIn, typed, until } from './help.mjs';

const ada = 'ws-000000001';
const phone = { viewport: { width: 320, height: 640 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

// audit finds by hand what a checker of accessibility would.
const audit = () => {
  const found = [];
  const seen = (e) => e.offsetParent !== null && getComputedStyle(e).visibility !== 'hidden' && !e.closest('[inert]');
  const named = (e) => (e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') && document.getElementById(e.getAttribute('aria-labelledby'))?.textContent || e.labels?.[0]?.textContent || e.textContent).trim();
  if (!document.documentElement.lang || !document.title) found.push('no language or title');
  for (const e of document.querySelectorAll('input, textarea, select, button, [role="progressbar"], [role="application"], [role="toolbar"], dialog[open]')) {
    if (seen(e) && !named(e)) found.push(`no name: ${e.outerHTML.slice(0, 120)}`);
    if (e.tabIndex > 0) found.push(`a tabindex of ${e.tabIndex}`);
  }
  for (const e of document.querySelectorAll('img')) if (!e.hasAttribute('alt')) found.push(`no alt: ${e.src}`);
  const heads = [...document.querySelectorAll('h1')].filter((e) => e.getClientRects().length > 0);
  if (heads.length !== 1) found.push(`${heads.length} first headings`);
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) found.push(`the id ${id} twice`);
  for (const e of document.querySelectorAll('[aria-controls], [aria-describedby], [for]')) {
    for (const name of ['aria-controls', 'aria-describedby', 'for']) {
      for (const id of (e.getAttribute(name) ?? '').split(' ').filter(Boolean)) if (!document.getElementById(id)) found.push(`${name}="${id}" leads nowhere`);
    }
  }
  // Contrast of text against the nearest background that is a colour (WCAG 2.2, 1.4.3).
  const rgb = (s) => { const m = s.match(/[\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
  const light = ([r, g, b]) => { const f = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n = walker.nextNode(); n; n = walker.nextNode()) {
    const e = n.parentElement;
    if (!n.textContent.trim() || !seen(e) || e.closest('.unseen, template, script, style, noscript, [aria-disabled="true"]')) continue;
    let at = e, back = null;
    while (at && !back) {
      const s = getComputedStyle(at);
      if (s.backgroundImage !== 'none') break;
      const c = rgb(s.backgroundColor);
      if (c[3] > 0.9) back = c;
      at = at.parentElement;
    }
    if (!back) continue;
    const style = getComputedStyle(e), [a, b] = [light(rgb(style.color)), light(back)].sort((x, y) => y - x);
    const large = parseFloat(style.fontSize) >= 24 || parseFloat(style.fontSize) >= 18.6 && style.fontWeight >= 700;
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) found.push(`contrast ${ratio.toFixed(2)}: “${n.textContent.trim().slice(0, 40)}” ${style.color}`);
  }
  if (document.documentElement.scrollWidth > innerWidth) found.push(`${document.documentElement.scrollWidth} pixels wide in a window of ${innerWidth}`);
  return found;
};

async function accessible(page, where) {
  equal(await page.evaluate(audit), [], where);
}

export const looksScenarios = [
  ['a phone of 320 pixels: sign in, choose, touch, type', async (visit) => {
    const page = await visit.open(phone);
    await page.getByLabel('Registration code').waitFor();
    await shot(page, 'phone-sign-in');
    await accessible(page, 'sign-in on a phone');
    await signIn(page, 'mary');
    await page.locator('.desktop-card').first().waitFor();
    await accessible(page, 'desktops on a phone');
    await shot(page, 'phone-desktops');
    await page.getByRole('button', { name: 'Connect Astronomy' }).tap();
    await connected(page);
    await until(async () => (await lever('size', { id: 'ws-000000011' })).Width === 640, 'more pixels than the phone has in CSS');
    await until(async () => !(await page.locator('#tools.open').count()), 'the tools hide by themselves');
    await shot(page, 'phone-desktop');
    if (!(await page.locator('#tools.open').count())) await page.locator('#handle').tap();
    await accessible(page, 'a desktop on a phone');
    const bar = await page.locator('#toolbar').boundingBox();
    expect(bar.x >= 0 && bar.x + bar.width <= 320, 'the tools inside the screen');
    await page.getByRole('button', { name: 'Special keys', exact: true }).tap();
    await page.waitForTimeout(250);
    await shot(page, 'phone-keys');
    await accessible(page, 'special keys on a phone');
    // The on-screen keyboard writes into a field; what it writes arrives, capitals and corrections too.
    await page.getByRole('button', { name: 'On-screen keyboard', exact: true }).tap();
    await until(() => page.evaluate(() => document.activeElement.id === 'typing'), 'the keyboard\'s field has the focus');
    await page.evaluate(() => {
      const field = document.getElementById('typing'), ground = field.value;
      for (const text of ['H', 'Ho', 'How', 'Hello ', 'Hello Phone!', 'Hello Phone']) {
        field.value = ground + text;
        field.dispatchEvent(new InputEvent('input', { bubbles: true }));
      }
    });
    await typed('ws-000000011', 'Hello Phone');
    // A finger on the desktop clicks, and the keyboard stays.
    await page.touchscreen.tap(150, 500);
    expect(await page.evaluate(() => document.activeElement.id === 'typing'), 'still the keyboard\'s field');
  }],

  ['a phone on its side, and a tablet', async (visit) => {
    const page = await desk(visit, 'ada', ada, { ...phone, viewport: { width: 740, height: 360 } });
    if (!(await page.locator('#tools.open').count())) await page.locator('#handle').tap();
    await page.getByRole('button', { name: 'Special keys', exact: true }).tap();
    await page.waitForTimeout(250);
    await shot(page, 'phone-side');
    await accessible(page, 'a phone on its side');
  }],

  ['the dark', async (visit) => {
    const page = await visit.open({ colorScheme: 'dark' });
    await page.getByLabel('Registration code').waitFor();
    await shot(page, 'dark-sign-in');
    await accessible(page, 'sign-in in the dark');
    await signIn(page, 'mary');
    await page.locator('.desktop-card').first().waitFor();
    await shot(page, 'dark-desktops');
    await accessible(page, 'desktops in the dark');
    await page.getByRole('button', { name: 'Connect Astronomy' }).click();
    await connected(page);
    if (!(await page.locator('#tools.open').count())) await page.locator('#handle').click();
    await page.getByRole('button', { name: 'Clipboard', exact: true }).click();
    await page.waitForTimeout(250);
    await shot(page, 'dark-clipboard');
    await accessible(page, 'the clipboard in the dark');
  }],

  ['everybody is told what the pages show', async (visit) => {
    const page = await visit.open({ reducedMotion: 'reduce' });
    await page.getByLabel('Registration code').waitFor();
    await accessible(page, 'sign-in');
    await signIn(page, 'mary', 'wrong');
    await until(async () => (await page.getByRole('alert').first().textContent()) !== '', 'the refusal is an alert');
    await accessible(page, 'sign-in refused');
    await shot(page, 'sign-in-refused');
    await page.getByLabel('Password', { exact: true }).fill('Somerville-1780');
    await page.keyboard.press('Enter');
    await page.locator('.desktop-card').first().waitFor();
    await accessible(page, 'desktops');
    await page.locator('.desktop-card', { hasText: 'Astronomy' }).getByRole('button', { name: 'Restart' }).click();
    await accessible(page, 'a question');
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'Connect Astronomy' }).click();
    await connected(page);
    await page.getByRole('application', { name: 'Astronomy' }).waitFor();
    if (!(await page.locator('#tools.open').count())) await page.locator('#handle').click();
    await page.getByRole('button', { name: 'Picture', exact: true }).click();
    await accessible(page, 'a desktop');
    equal(await page.locator('#veil [role=status]').count(), 1, 'places where changes are told');
    // Nothing of a desktop is printed.
    await page.emulateMedia({ media: 'print' });
    equal(await page.locator('#viewer').isVisible(), false, 'the desktop on paper');
  }],
];
