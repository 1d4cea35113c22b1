// Walks through the portal in headless Chromium. Each scenario has a browser context of its own and prints one line of JSON:
// {"name", "ok", "error", "ms"}. portal_test.go starts it, with the addresses of the portal and of the levers that shake the world.

import { mkdirSync } from 'node:fs';
import { begin, lever, only, until } from './walk/help.mjs';
import { desktopScenarios } from './walk/desktop.mjs';
import { looksScenarios } from './walk/looks.mjs';
import { signinScenarios } from './walk/signin.mjs';

const { chromium } = await import(`${process.env.MODULES}/playwright-core/index.mjs`);
mkdirSync(process.env.SHOTS, { recursive: true });

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
process.on('SIGINT', () => browser.close().finally(() => process.exit(1)));

try {
  for (const [name, scenario] of [...signinScenarios, ...desktopScenarios, ...looksScenarios]) {
    if (!only(name)) continue;
    const began = performance.now();
    let error = '';
    const visit = begin(browser);
    try {
      await scenario(visit);
      await visit.innocent();
    } catch (problem) {
      error = `${problem.stack ?? problem}\n${visit.said()}`;
      await visit.page?.screenshot({ path: `${process.env.SHOTS}/failed.png` }).catch(() => {});
    }
    await visit.close();
    await until(async () => await lever('live') === 0, 'no session is left over').catch((e) => { error ||= String(e); });
    console.log(JSON.stringify({ name, ok: error === '', error, ms: performance.now() - began }));
  }
} finally {
  await browser.close();
}
