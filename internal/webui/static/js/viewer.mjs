// The page of one desktop: its screen, the tools over it, and the veil that says what is going on when there is no screen.

import * as api from './api.mjs';
import { Channel, Closed } from './channel.mjs';
import { ClipboardPanel } from './clipboard.mjs';
import { byId, refer, say, title, toast } from './dom.mjs';
import { KeyboardChoice } from './keyboard.mjs';
import { Link } from './link.mjs';
import { density, quality } from './picture.mjs';
import { Poll } from './poll.mjs';
import { preference, Toolbar } from './toolbar.mjs';
import { Typing } from './typing.mjs';
import { drop, end, state } from './words.mjs';

// How often the session is looked at while a desktop is shown.
const sessionEvery = 60_000;
// How long before its end the person is told.
const warning = 10 * 60_000;

const at = {};
let hooks = {}, toolbar = null, typing = null, clipboard = null, keyboard = null, session = null;
let link = null, desktop = null, screen = null, latency = NaN, warned = false, greeted = false, counting = null;

// prepare is called once. leave() goes back to the list, signedOut() to the sign-in page.
export function prepare(given) {
  hooks = given;
  for (const id of ['viewer', 'viewer-title', 'stage', 'last', 'veil', 'veil-title', 'veil-text', 'veil-count', 'veil-go', 'veil-back', 'view-note']) at[id] = byId(id);
  typing = new Typing(byId('typing'), () => toolbar?.refresh());
  toolbar = new Toolbar({ on: { leave: () => hooks.leave(), focus, changed: apply }, typing });
  clipboard = new ClipboardPanel(() => toolbar.mark('clip', true));
  keyboard = new KeyboardChoice(() => clipboard.refresh());
  session = new Poll(lookAtSession);
  at['veil-back'].addEventListener('click', () => hooks.leave());
  at['veil-go'].addEventListener('click', pressed);
  window.addEventListener('online', () => link?.hurry());
  window.addEventListener('resize', apply);
  window.addEventListener('pagehide', () => link?.stop());
  window.visualViewport?.addEventListener('resize', keepInSight);
  at.stage.addEventListener('pointerdown', (event) => { at.stage.dataset.y = String(event.clientY); }, { capture: true });
}

// show opens a desktop; known is what the list said of it, or just its id.
export function show(known) {
  desktop = known;
  greeted = warned = false;
  at.viewer.hidden = false;
  name();
  toolbar.begin(desktop.name ?? '');
  link = new Link({
    ticket: async () => (await api.connect(desktop.id)).ticket,
    look,
    open,
    tell,
  });
  link.run();
  session.start();
}

export function hide() {
  link?.stop();
  link = null;
  session.stop();
  clearInterval(counting);
  typing.attach(null);
  toolbar.end();
  clipboard.forget();
  forgetPicture();
  at.stage.replaceChildren();
  at['viewer-title'].textContent = at['veil-title'].textContent = at['veil-text'].textContent = '';
  at.viewer.hidden = true;
  desktop = null;
}

function name() {
  title(desktop.name ?? 'Desktop');
  at['viewer-title'].textContent = desktop.name ?? 'Desktop';
  byId('tools-name').textContent = desktop.name ?? '';
}

async function look() {
  const found = (await api.desktops()).find((d) => d.id === desktop?.id) ?? null;
  if (found) {
    desktop = found;
    name();
  }
  return found;
}

// lookAtSession keeps the portal session from being idle while the desktop is looked at, and notices its end.
async function lookAtSession() {
  try {
    const left = new Date((await api.whoAmI()).ends) - Date.now();
    if (left < warning && !warned) {
      warned = true;
      toast(`You will be asked to sign in again in ${Math.max(1, Math.round(left / 60_000))} minutes.`, 15_000);
    }
    if (desktop && !desktop.name) await look();
  } catch (problem) {
    if (problem.code === 'signed-out') hooks.signedOut();
  }
  return sessionEvery;
}

let module = null;

// preload fetches noVNC while the person still looks at the list.
export const preload = () => import('./screen.mjs').catch(() => {});

// viewer loads noVNC, which is not part of the source tree.
async function viewer() {
  try {
    module ??= (await import('./screen.mjs')).default;
    return module;
  } catch {
    const answer = await fetch('vendor/novnc/core/rfb.js', { method: 'HEAD' }).catch(() => null);
    if (!answer) throw new Closed('offline');
    if (answer.status === 404) throw new Closed('no-viewer');
  }
  // A module that could not be fetched once is not fetched again by this page, but by its next incarnation.
  if (history.state?.reloaded) throw new Closed('no-browser');
  history.replaceState({ reloaded: true }, '');
  location.reload();
  return new Promise(() => {});
}

// open shows the screen that a ticket is for.
async function open(ticket) {
  const mine = link;
  const Screen = await viewer();
  const channel = await Channel.open(api.screenURL(), ticket, note);
  if (link !== mine) {
    channel.close();
    throw new Closed('over');
  }
  const policy = channel.hello;
  channel.ending = keepPicture;
  keyboard.open((word) => channel.send(JSON.stringify(word)));
  screen = new Screen(at.stage, channel);
  screen.background = 'transparent';
  screen.scaleViewport = true;
  screen.viewOnly = policy.viewOnly === true;
  screen.addEventListener('clipboard', (event) => clipboard.arrived(event.detail.text));
  latency = NaN;
  apply();
  const ready = await Promise.race([new Promise((resolve) => screen.addEventListener('connect', () => resolve(''), { once: true })), channel.closed]);
  if (ready !== '') throw new Closed(ready);
  // noVNC gives up on what it does not understand without saying so to the channel.
  screen.addEventListener('disconnect', () => channel.close());
  const attached = screen;
  typing.attach(policy.viewOnly ? null : attached);
  clipboard.open(policy.clipboard, { send: (text) => attached.clipboardPasteFrom(text), type: (text) => typing.text(text), confirms: policy.confirms === true, typable: () => keyboard.typable });
  await painted(channel);
  return { closed: channel.closed.then((why) => (why === 'closed' ? 'protocol' : why)), close: () => channel.close() };
}

// painted waits for the first picture, a second at most.
async function painted(channel) {
  const before = channel.bytes;
  for (let i = 0; i < 20 && channel.bytes - before < 1000; i++) await new Promise((resolve) => setTimeout(resolve, 50));
}

// note takes what the gateway tells besides the picture.
function note(word) {
  if (word?.type === 'clipboard') {
    keyboard.is(word.state);
    clipboard.is(word.state);
  }
  if (word?.type !== 'latency') return;
  latency = Number(word.milliseconds);
  toolbar.latency(latency);
  apply();
}

// apply makes the picture as good and as large as it is to be.
function apply() {
  const ratio = window.devicePixelRatio || 1;
  byId('size-sharp').hidden = ratio <= 1;
  if (!screen) return;
  const { quality: level, compression } = quality(preference('quality'), latency);
  screen.qualityLevel = level;
  screen.compressionLevel = compression;
  const dense = density(preference('size'), at.stage.clientWidth, ratio);
  if (dense > 0) screen.density = dense;
  if (screen.resizeSession !== dense > 0) screen.resizeSession = dense > 0;
  at['view-note'].textContent = preference('size') === 'sharp' ? 'Everything on the desktop becomes smaller unless it is set to a larger scale itself.' : '';
}

// keepPicture is called before noVNC takes its canvas away: the last picture stays, greyed.
function keepPicture() {
  const canvas = at.stage.querySelector('canvas');
  typing.attach(null);
  clipboard.close();
  keyboard.close();
  screen = null;
  if (!canvas || canvas.width === 0 || !link) return;
  at.last.width = canvas.width;
  at.last.height = canvas.height;
  at.last.style.width = canvas.style.width;
  at.last.style.height = canvas.style.height;
  at.last.getContext('2d').drawImage(canvas, 0, 0);
  at.last.hidden = false;
}

function forgetPicture() {
  at.last.hidden = true;
  at.last.width = at.last.height = 0;
}

function focus() {
  if (screen && at.veil.hidden) screen.focus({ preventScroll: true });
}

// tell shows what the link does.
function tell(is) {
  clearInterval(counting);
  say(at['veil-count'], '');
  at.viewer.dataset.phase = is.phase;
  const label = desktop.name ?? 'your desktop';
  switch (is.phase) {
    case 'connected':
      return connected();
    case 'connecting':
      return veil({ title: `Connecting to ${label}…`, busy: true });
    case 'again':
      veil({ title: 'Reconnecting…', text: drop(is.why), busy: true, go: is.wait >= 2000 ? 'Try now' : '' });
      return count(is);
    case 'waiting':
      return waiting(is);
    case 'ended':
      return ended(is);
  }
  return undefined;
}

function connected() {
  forgetPicture();
  at.veil.hidden = true;
  delete at.veil.dataset.go;
  focus();
  if (greeted) return;
  greeted = true;
  toolbar.show();
}

function waiting({ desktop: d, why }) {
  const is = state(d);
  if (d.canConnect) return veil({ title: why === 'desktop-ended' ? 'Your desktop closed its screen' : 'Your desktop is ready', text: 'Connecting again…', busy: true });
  return veil({ title: `${d.name}: ${is.label.toLowerCase()}`, text: is.sentence, busy: is.changing, go: d.canStart ? 'Start' : '' });
}

function ended({ why, id }) {
  if (why === 'signed-out') return hooks.signedOut();
  // A picture of a desktop that one may no longer see is no longer shown.
  if (why !== 'taken-over' && why !== 'gave-up' && why !== 'broken') forgetPicture();
  return veil({ ...end(why), id });
}

function veil({ title: head, text = '', busy = false, go = '', id = '' }) {
  const fresh = at.veil.hidden;
  toolbar.hide();
  at.veil.hidden = false;
  at.veil.classList.toggle('busy', busy);
  at.veil.classList.toggle('over', !at.last.hidden);
  say(at['veil-title'], head);
  say(at['veil-text'], text);
  refer(at['veil-text'], id);
  say(at['veil-go'], go);
  // The heading and not a button: somebody who goes on typing presses nothing.
  if (fresh || !at.veil.contains(document.activeElement)) at['veil-title'].focus();
}

function count({ tries, wait }) {
  let left = Math.round(wait / 1000);
  const show = () => say(at['veil-count'], left > 0 ? `Try ${tries}, in ${left} s` : `Try ${tries}`);
  show();
  counting = setInterval(() => {
    left = Math.max(0, left - 1);
    show();
  }, 1000);
}

async function pressed() {
  if (at.viewer.dataset.phase === 'waiting') {
    say(at['veil-go'], '');
    try {
      await api.start(desktop.id);
    } catch (problem) {
      if (problem.code === 'signed-out') return hooks.signedOut();
      if (problem.code !== 'not-now') toast(problem.message);
    }
  }
  return link?.hurry();
}

// keepInSight moves the desktop up while an on-screen keyboard covers its lower part, so that what was touched last can be seen.
function keepInSight() {
  const covered = window.innerHeight - window.visualViewport.height;
  const touched = Number(at.stage.dataset.y) || 0;
  const up = typing.on && covered > 80 ? Math.min(covered, Math.max(0, touched - window.visualViewport.height / 2)) : 0;
  at.stage.style.transform = up > 0 ? `translateY(${-up}px)` : '';
}
