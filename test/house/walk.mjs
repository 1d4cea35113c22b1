// A person in headless Chromium. house_test.go starts it and tells it scene by scene what to do: a line of JSON {"scene", ...} comes on standard
// input, a line {"error", "said"} goes to standard output when the scene is over. Passwords come this way too, never as an argument.

import { createInterface } from 'node:readline';
import { begin } from '../portal/walk/help.mjs';
import { scenes } from './walk/scenes.mjs';

const { chromium } = await import(`${process.env.MODULES}/playwright-core/index.mjs`);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
process.on('SIGINT', () => browser.close().finally(() => process.exit(1)));

const visit = begin(browser);
try {
  for await (const line of createInterface({ input: process.stdin })) {
    const { scene, ...given } = JSON.parse(line);
    let error = '', said = {};
    try {
      said = await scenes[scene](visit, given) ?? {};
    } catch (problem) {
      error = `${problem.stack ?? problem}\n${visit.said()}`;
      await Promise.all(visit.contexts.flatMap((c) => c.pages()).map((page, i) => page.screenshot({ path: `${process.env.SHOTS}/failed-${i}.png` }).catch(() => {})));
    }
    console.log(JSON.stringify({ error, said }));
  }
} finally {
  await browser.close();
}
