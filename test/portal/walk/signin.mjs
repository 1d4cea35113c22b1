// Signing in, the list of desktops, signing out.

import { code, connected, equal, expect, focused, home, lever, passwords, portal, shot, signIn, typed, until } from './help.mjs';

const alert = (page) => page.locator('#signin form:not([hidden]) .message');

export const signinScenarios = [
  ['a person signs in, and the device remembers the code and nothing else', async (visit) => {
    const page = await visit.open();
    await page.getByRole('heading', { name: 'Sign in to your desktop' }).waitFor();
    await focused(page.getByLabel('Registration code'), 'the first field');
    await shot(page, 'sign-in');
    await signIn(page, 'ada');
    await page.getByRole('heading', { level: 1, name: 'Your desktop', exact: true }).waitFor();
    expect(await page.title() === 'Your desktops · Carrel');
    expect((await page.locator('#who').textContent()) === 'Ada Lovelace');
    await shot(page, 'one-desktop');
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByText('You are signed out.').waitFor();
    equal(await page.locator('#code-shown').textContent(), code, 'the code that is remembered');
    await focused(page.getByLabel('User name'), 'the user name');
    expect(!(await page.content()).includes('Ada Lovelace'), 'forgotten who was here');
    await shot(page, 'signed-out');
    await page.getByRole('button', { name: 'Use another code' }).click();
    equal(await page.getByLabel('Registration code').inputValue(), '', 'the code field');
    equal(await page.evaluate(() => localStorage.length), 0, 'things kept after using another code');
    // The page forgets at once; the server is told meanwhile.
    await until(async () => await page.evaluate(() => fetch('api/session').then((r) => r.status)) === 401, 'the session is over after signing out');
  }],

  ['what is wrong is said next to where it is mended, and the password is gone', async (visit) => {
    const page = await visit.open();
    const go = page.getByRole('button', { name: 'Sign in' });
    const before = await go.boundingBox();
    await go.click();
    equal(await alert(page).textContent(), 'Enter your registration code.', 'without a code');
    expect(await page.getByLabel('Registration code').getAttribute('aria-invalid') === 'true');
    await signIn(page, 'ada', 'not-it');
    await until(async () => (await alert(page).textContent()).includes('is not right'), 'the refusal is shown');
    expect(/ Reference for your administrator: [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(await alert(page).textContent()), await alert(page).textContent());
    equal(await page.getByLabel('Password', { exact: true }).inputValue(), '', 'the password field');
    await focused(page.getByLabel('Password', { exact: true }), 'the password');
    equal((await go.boundingBox()).y, before.y, 'the place of the button after a message');
    await lever('directory', { to: 'down' });
    await signIn(page, 'ada');
    await until(async () => (await alert(page).textContent()).includes('does not answer'), 'the directory is said to be away');
    await lever('directory', { to: 'up' });
    // A person who goes on guessing is told how long to wait.
    await page.evaluate((body) => Promise.all(Array.from({ length: 8 }, () => fetch('api/session', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body }))),
      JSON.stringify({ code, userName: 'mallory', password: 'guess' }));
    await page.getByLabel('User name').fill('mallory');
    await page.getByLabel('Password', { exact: true }).fill('one guess more');
    await page.keyboard.press('Enter');
    await until(async () => (await alert(page).textContent()).startsWith('Too many'), 'it is too much');
    expect(/Too many attempts. Try again in \d+ minutes./.test(await alert(page).textContent()), 'told how long to wait');
  }],

  ['the password can be shown, and Caps Lock is noticed', async (visit) => {
    const page = await visit.open();
    const field = page.locator('#password');
    await field.fill('visible');
    await page.getByRole('button', { name: 'Show password' }).click();
    equal(await field.getAttribute('type'), 'text', 'the type of the shown field');
    await page.getByRole('button', { name: 'Show password' }).click();
    equal(await field.getAttribute('type'), 'password', 'the type of the hidden field');
    await field.evaluate((e) => e.dispatchEvent(new KeyboardEvent('keydown', { key: 'A', modifierCapsLock: true, bubbles: true })));
    equal(await page.locator('#login-caps').textContent(), 'Caps Lock is on.', 'the hint');
    await field.evaluate((e) => e.dispatchEvent(new KeyboardEvent('keydown', { key: 'a', bubbles: true })));
    equal(await page.locator('#login-caps').textContent(), '', 'the hint');
    for (const [id, want] of Object.entries({ user: 'username', password: 'current-password', next: 'new-password', again: 'new-password' })) {
      equal(await page.locator(`#${id}`).getAttribute('autocomplete'), want, id);
    }
  }],

  ['a password that must be changed is changed on the same page', async (visit) => {
    const page = await visit.open();
    await signIn(page, 'linus');
    await page.getByRole('heading', { name: 'Choose a new password' }).waitFor();
    await page.getByText('Signing in as linus.').waitFor();
    await shot(page, 'change-password');
    const [next, again] = [page.getByLabel('New password', { exact: true }), page.getByLabel('New password, once more')];
    const go = page.getByRole('button', { name: 'Change password and sign in' });
    await focused(next, 'the new password');
    await next.fill('one');
    await again.fill('two');
    await go.click();
    equal(await alert(page).textContent(), 'The two new passwords are not the same.', 'two passwords');
    await next.fill(passwords.linus);
    await go.click();
    equal(await alert(page).textContent(), 'The new password must be another one.', 'the old one again');
    await next.fill('short');
    await again.fill('short');
    await go.click();
    await until(async () => (await alert(page).textContent()).includes('rules do not allow'), 'the weak password is refused');
    equal(await next.inputValue() + await again.inputValue(), '', 'the fields after a refusal');
    await page.getByRole('button', { name: 'Sign in as somebody else' }).click();
    await page.getByRole('heading', { name: 'Sign in to your desktop' }).waitFor();
    await signInAgain(page, passwords.linus);
    await page.getByRole('heading', { name: 'Choose a new password' }).waitFor();
    await next.fill('a-much-better-one');
    await again.fill('a-much-better-one');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'No desktop yet' }).waitFor();
    await shot(page, 'no-desktop');
  }],

  ['from sign-in to the desktop and back with the keyboard alone', async (visit) => {
    const page = await visit.open();
    const press = (...keys) => keys.reduce((p, k) => p.then(() => page.keyboard.press(k)), Promise.resolve());
    await page.getByLabel('Registration code').waitFor();
    await page.keyboard.type(code.toLowerCase());
    await press('Tab');
    await page.keyboard.type('ada');
    await press('Tab');
    await page.keyboard.type(passwords.ada);
    await press('Enter');
    await page.getByRole('button', { name: 'Connect Ada\'s desktop' }).waitFor();
    // One running desktop: connecting is one key press.
    await press('Enter');
    await connected(page);
    equal(await page.title(), 'Ada\'s desktop · Carrel', 'the title');
    await page.keyboard.type('echo Hello from the Keys');
    await press('Tab', 'Enter'); // Tab belongs to the desktop.
    await typed('ws-000000001', 'Hello from the Keys');
    const focus = () => page.evaluate(() => document.activeElement.dataset.tool ?? document.activeElement.id ?? document.activeElement.tagName);
    for (const key of ['Control', 'Alt', 'Shift']) await page.keyboard.down(key);
    for (const key of ['Shift', 'Alt', 'Control']) await page.keyboard.up(key);
    await until(async () => await focus() === 'keys', 'Ctrl+Alt+Shift leads to the tools');
    await press('ArrowRight');
    equal(await focus(), 'clip', 'the tool to the right');
    await press('Enter');
    await page.getByRole('group', { name: 'Clipboard' }).waitFor();
    await press('Escape', 'Escape');
    await until(() => page.evaluate(() => document.activeElement.tagName === 'CANVAS'), 'Escape leads back to the desktop');
    await page.keyboard.type('still here');
    await typed('ws-000000001', 'still here');
    for (const key of ['Control', 'Shift', 'Alt']) await page.keyboard.down(key);
    for (const key of ['Control', 'Shift', 'Alt']) await page.keyboard.up(key);
    await until(async () => await focus() === 'keys', 'in another order, too');
    await press('ArrowLeft', 'ArrowLeft', 'ArrowRight', 'ArrowRight', 'ArrowRight', 'ArrowRight');
    await until(async () => { await press('ArrowRight'); return await focus() === 'leave'; }, 'the button that disconnects');
    await press('Enter');
    await page.getByRole('button', { name: 'Connect Ada\'s desktop' }).waitFor();
  }],

  ['a stopped desktop is started, shows it, and opens by itself', async (visit) => {
    const page = await home(visit, 'grace');
    await page.getByText('Everything is where you left it.').waitFor();
    await page.getByRole('button', { name: 'Start Compiler desk' }).click();
    await page.getByRole('progressbar').waitFor();
    await page.getByText('Starting', { exact: true }).waitFor();
    await shot(page, 'starting');
    await connected(page);
    await page.keyboard.type('started');
    await typed('ws-000000002', 'started');
  }],

  ['a desktop is restarted after a question', async (visit) => {
    const page = await home(visit, 'mary');
    await shot(page, 'many-desktops');
    equal(await page.locator('.desktop-card').count(), 5, 'cards');
    equal(await page.getByText('Laboratory <b>&amp;', { exact: true }).count(), 1, 'names shown as they are');
    const card = page.locator('.desktop-card', { hasText: 'Astronomy' });
    await card.getByRole('button', { name: 'Restart' }).click();
    await page.getByRole('dialog', { name: 'Restart Astronomy?' }).waitFor();
    await shot(page, 'restart');
    await page.keyboard.press('Escape');
    equal(await card.locator('.label').textContent(), 'Ready', 'the state after saying no');
    await card.getByRole('button', { name: 'Restart' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Restart' }).click();
    await card.getByText('Restarting', { exact: true }).waitFor();
    await until(async () => await card.locator('.label').textContent() === 'Ready', 'it is ready again');
  }],

  ['a session that ends elsewhere leads to the sign-in page, which says so', async (visit) => {
    const page = await home(visit, 'mary');
    await lever('end-sessions', { sid: 'S-1-5-21-1-2-3-mary' });
    await page.getByText('You have been signed out.').waitFor();
    await signInAgain(page, passwords.mary, 'mary');
    await page.getByRole('heading', { level: 1, name: /Your desktops/ }).waitFor();
  }],

  ['an address that was kept leads to the desktop after signing in', async (visit) => {
    const page = await visit.open({}, '/#/desktop/ws-000000001');
    await signIn(page, 'ada');
    await connected(page);
    await until(async () => await page.title() === 'Ada\'s desktop · Carrel', 'the name is found');
    await page.goto(`${portal}/#/desktop/ws-000000011`);
    await page.getByText('This desktop is no longer yours').waitFor();
    await page.getByRole('button', { name: 'Back to your desktops' }).click();
    await page.getByRole('button', { name: 'Connect Ada\'s desktop' }).waitFor();
  }],
];

async function signInAgain(page, password, user) {
  if (user) await page.getByLabel('User name').fill(user);
  await page.getByLabel('Password', { exact: true }).fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
}
