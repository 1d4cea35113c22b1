// The portal: which of its three pages is shown, and for whom. The address says only which desktop is open.

import * as api from './api.mjs';
import * as desktops from './desktops.mjs';
import { byId, title, toast } from './dom.mjs';
import * as signin from './signin.mjs';
import * as viewer from './viewer.mjs';
import { signedOut as whySignedOut } from './words.mjs';

let person = null;
// known is what the list said of the desktop that is opened next.
let known = null;
let page = null;

const route = () => {
  const found = /^#\/desktop\/(ws-[a-z0-9]+)$/.exec(location.hash);
  return found ? found[1] : '';
};

function show(next, ...args) {
  byId('wait').hidden = true;
  byId('trouble').hidden = true;
  page?.hide();
  page = next;
  page?.show(...args);
}

// follow shows what the address says.
function follow() {
  if (!person) return;
  const id = route();
  if (!id) {
    show(desktops, person);
    return void (globalThis.requestIdleCallback ?? setTimeout)(viewer.preload);
  }
  return show(viewer, known?.id === id ? known : { id });
}

function go(hash) {
  if (location.hash === hash) follow();
  else location.hash = hash;
}

function signedIn(who) {
  person = who;
  follow();
}

function signedOut(why) {
  if (!person && page === signin) return;
  person = known = null;
  show(signin, whySignedOut(why), why !== 'by-choice');
  desktops.forget();
}

// leave signs out. The page forgets at once what the server may take a moment for.
async function leave() {
  let failed = null;
  const asked = api.signOut().catch((problem) => { failed = problem; });
  history.replaceState(null, '', location.pathname);
  signedOut('by-choice');
  await asked;
  if (failed && failed.code !== 'signed-out') toast('The portal could not be told that you are leaving. Close the browser to be sure.', 10_000);
}

function trouble(head, text) {
  show(null);
  title(head);
  const at = byId('trouble');
  at.querySelector('h1').textContent = head;
  at.querySelector('p').textContent = text;
  at.hidden = false;
  at.querySelector('h1').focus();
}

async function begin() {
  try {
    signedIn(await api.whoAmI());
  } catch (problem) {
    if (problem.code === 'signed-out') return show(signin);
    if (problem.status === 404) return trouble('This is a Carrel portal', 'It is running, but this installation does not let people sign in here. Administrators use the AWS CLI, an SDK or Terraform against the API door.');
    return trouble('The portal does not answer', problem.message);
  }
}

signin.prepare(signedIn);
desktops.prepare({
  open: (desktop) => {
    known = desktop;
    go(`#/desktop/${desktop.id}`);
  },
  signedOut: () => signedOut('session'),
  leave,
});
viewer.prepare({ leave: () => go('#/'), signedOut: () => signedOut('session') });
window.addEventListener('hashchange', follow);
// A page that comes back out of the browser's history may belong to somebody who has left.
window.addEventListener('pageshow', (event) => { if (event.persisted) location.reload(); });
byId('trouble').querySelector('button').addEventListener('click', () => location.reload());
begin();
