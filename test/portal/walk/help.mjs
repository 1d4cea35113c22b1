// What every scenario uses: a context that notices everything a page must not do, and words for the world around it.

export const portal = process.env.PORTAL;
export const code = 'WSCORP+7F3K2A';
export const passwords = { ada: 'Lovelace-1815', grace: 'Hopper-1906', linus: 'old-Passw0rd', mary: 'Somerville-1780' };
// secrets are what no page may keep; scenarios with others add them.
export const secrets = [...Object.values(passwords), 'a-much-better-one'];

export const only = (name) => !process.env.ONLY || name.includes(process.env.ONLY);

export function expect(true_, what = 'as expected') {
  if (!true_) throw new Error(`not ${what}`);
}

export function equal(is, want, what) {
  if (JSON.stringify(is) !== JSON.stringify(want)) throw new Error(`${what}: ${JSON.stringify(is)}, want ${JSON.stringify(want)}`);
}

export async function until(fn, what, ms = 30_000) {
  const end = Date.now() + ms;
  for (;;) {
    if (await fn()) return;
    if (Date.now() > end) throw new Error(`never: ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
}

// focused waits until the keyboard is in a field.
export const focused = (locator, what) => until(() => locator.evaluate((e) => e === document.activeElement), `the focus is in ${what}`);

// lever shakes the world, or asks it something.
export async function lever(name, query = {}) {
  const answer = await fetch(`${process.env.LEVERS}/${name}?${new URLSearchParams(query)}`);
  if (!answer.ok) throw new Error(`lever ${name}: ${await answer.text()}`);
  return answer.json();
}

// What browsers say themselves when a call is answered with no, which is no fault of the page.
const answered = /^Failed to load resource: the server responded with a status of (401|403|404|409|429|503)/;
// A hint to noVNC, which reads its canvas back when the desktop changes its size, and to whoever counts colours here.
const counted = /willReadFrequently/;
// What they say when the cable is out.
const cable = /net::ERR_|WebSocket connection to/;

export function begin(browser) {
  const visit = { contexts: [], complaints: [], addresses: [], mayBreak: false, page: null };

  // open makes a context and a page in it.
  visit.open = async (options = {}, path = '/') => {
    const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1280, height: 800 }, ...options });
    context.setDefaultTimeout(30_000);
    visit.contexts.push(context);
    await context.addInitScript(() => {
      globalThis.violations = [];
      document.addEventListener('securitypolicyviolation', (e) => globalThis.violations.push(`${e.violatedDirective} ${e.blockedURI}`));
    });
    return visit.another(context, path);
  };
  visit.another = async (context, path = '/') => {
    const page = await context.newPage();
    page.on('console', (m) => {
      if (answered.test(m.text()) || counted.test(m.text()) || (visit.mayBreak && cable.test(m.text()))) return;
      visit.complaints.push(`console ${m.type()}: ${m.text()}`);
    });
    page.on('pageerror', (e) => visit.complaints.push(`error: ${e.stack}`));
    page.on('request', (r) => visit.addresses.push(r.url()));
    page.on('framenavigated', (f) => visit.addresses.push(f.url()));
    page.on('websocket', (s) => visit.addresses.push(s.url()));
    visit.page ??= page;
    if (path !== null) await page.goto(portal + path);
    return page;
  };

  // innocent looks whether the pages did anything that they must not.
  visit.innocent = async () => {
    for (const context of visit.contexts) {
      for (const page of context.pages()) {
        visit.complaints.push(...(await page.evaluate(() => globalThis.violations ?? [])).map((v) => `CSP: ${v}`));
        const kept = await page.evaluate(() => ({ local: { ...localStorage }, session: { ...sessionStorage }, cookies: document.cookie, dom: document.documentElement.outerHTML,
          fields: [...document.querySelectorAll('input[type=password], input[type=text]')].map((i) => i.value) }));
        for (const key of Object.keys(kept.local)) if (!['carrel.code', 'carrel.quality', 'carrel.size', 'carrel.clipboard'].includes(key)) visit.complaints.push(`localStorage has ${key}`);
        const all = JSON.stringify(kept);
        for (const secret of secrets) if (all.includes(secret)) visit.complaints.push(`the page keeps the password ${secret}`);
        if (kept.cookies || Object.keys(kept.session).length > 0) visit.complaints.push('the page can read cookies or keeps a session');
      }
    }
    for (const address of visit.addresses) {
      if (secrets.some((s) => address.includes(encodeURIComponent(s))) || /ticket|[?&=]/.test(address)) visit.complaints.push(`address ${address}`);
      if (!address.replace(/^wss/, 'https').startsWith(portal) && !address.startsWith('data:') && address !== 'about:blank') visit.complaints.push(`another site: ${address}`);
    }
    if (visit.complaints.length > 0) throw new Error(visit.complaints.join('\n'));
  };
  visit.said = () => visit.complaints.join('\n');
  visit.close = () => Promise.all(visit.contexts.map((c) => c.close()));
  return visit;
}

export async function signIn(page, user, password = passwords[user]) {
  await page.getByLabel('Registration code').fill(code);
  await page.getByLabel('User name').fill(user);
  await page.getByLabel('Password', { exact: true }).fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

// home signs in and waits for the list.
export async function home(visit, user, options) {
  const page = await visit.open(options);
  await signIn(page, user);
  await page.getByRole('heading', { level: 1, name: /Your desktop/ }).waitFor();
  return page;
}

// desk opens a desktop for somebody who is signed in already.
export async function desk(visit, user, id, options) {
  const page = await visit.open(options, null);
  const answer = await page.context().request.post(`${portal}/api/session`, { data: { code, userName: user, password: passwords[user] } });
  equal(answer.status(), 200, 'signed in');
  await page.goto(`${portal}/#/desktop/${id}`);
  await connected(page);
  return page;
}

export const connected = (page) => page.locator('#viewer[data-phase="connected"]').waitFor();

// typed waits for a text on a desktop's terminal.
export const typed = (id, text) => until(async () => {
  const t = (await lever('screen', { id })).Terminal;
  return [...(t.Lines ?? []), t.Line].join('\n').includes(text);
}, `“${text}” on the terminal of ${id}`);

// colours counts the different colours on a canvas.
export const colours = (page, selector = '#stage canvas') => page.evaluate((s) => {
  const c = document.querySelector(s);
  if (!c || c.width === 0) return 0;
  const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);
  return new Set(new Uint32Array(data.buffer)).size;
}, selector);

export const shot = (page, name) => page.screenshot({ path: `${process.env.SHOTS}/${name}.png` });
