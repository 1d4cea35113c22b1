// Drives a browser over the page: node look.js URL FOLDER. Prints what it saw as JSON; screenshots go to FOLDER.
'use strict';
const { chromium } = require('playwright-core');
const path = require('path');

const [, , url, folder] = process.argv;
const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'];

// until waits for an expression to be true in the page. (playwright's waitForFunction uses eval there, which the page's policy forbids.)
async function until(page, expression) {
    const end = Date.now() + 60000;
    while (!await page.evaluate(`!!window.state && !!(${expression})`)) { // The page's script may not have begun.
        if (Date.now() > end) {
            throw new Error(`never: ${expression}; ${await page.evaluate('JSON.stringify(window.state)')}`);
        }
        await new Promise((wake) => setTimeout(wake, 30));
    }
}

async function main() {
    const saw = { errors: [] };
    const context = await chromium.launchPersistentContext(path.join(folder, 'profile'), {
        executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: flags, ignoreHTTPSErrors: true, viewport: { width: 1280, height: 800 },
    });
    try {
        const open = async () => {
            const page = await context.newPage();
            page.on('pageerror', (e) => saw.errors.push(e.message));
            await page.goto(url);
            await until(page, 'state.reason || state.events.some((e) => e[0] === "connect")');
            await until(page, 'state.reason || state.rectangles[7] > 20');
            return page;
        };
        const size = (page, w, h) => until(page, `rfb._fbWidth === ${w} && rfb._fbHeight === ${h}`);
        const page = await open();
        saw.opened = await page.evaluate('state.opened');
        await size(page, 1280, 800);
        await page.screenshot({ path: path.join(folder, 'first.png') });

        const terminal = 'sum(125, 60, 700, 300)';
        let before = await page.evaluate(terminal);
        await page.mouse.click(600, 400);
        await page.keyboard.type('echo hello from the browser, z and y; {}|~\n');
        await until(page, `${terminal} !== ${before}`);
        await page.keyboard.type('copy text from the desktop\n');
        await until(page, 'state.copied === "text from the desktop"');
        await page.evaluate('rfb.clipboardPasteFrom("echo pasted: grüße")');
        before = await page.evaluate(terminal);
        await page.keyboard.press('Control+v');
        await until(page, `${terminal} !== ${before}`);
        await page.keyboard.press('Enter');
        await until(page, 'state.latency > 0');
        saw.latency = await page.evaluate('state.latency');
        await page.screenshot({ path: path.join(folder, 'typed.png') });

        await page.setViewportSize({ width: 1000, height: 700 });
        await size(page, 1000, 700);
        await page.screenshot({ path: path.join(folder, 'resized.png') });
        await page.setViewportSize({ width: 390, height: 780 });
        await size(page, 390, 780);
        await page.waitForTimeout(300); // For the picture; nothing depends on it.
        await page.screenshot({ path: path.join(folder, 'phone.png') });
        saw.rectangles = await page.evaluate('state.rectangles');
        saw.continuous = await page.evaluate('rfb._enabledContinuousUpdates');
        saw.scancodes = await page.evaluate('rfb._qemuExtKeyEventSupported');
        saw.violations = await page.evaluate('state.violations');

        const second = await open();
        await until(page, 'state.reason');
        saw.first = await page.evaluate('state.reason');
        saw.second = await second.evaluate('state.reason');
    } finally {
        await context.close();
    }
    console.log(JSON.stringify(saw));
}

main().catch((e) => { console.error(e); process.exit(1); });
