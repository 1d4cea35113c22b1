// The list of a person's desktops, kept up to date while the page is seen.

import * as api from './api.mjs';
import { ask, byId, refer, say, title } from './dom.mjs';
import { Poll } from './poll.mjs';
import { state } from './words.mjs';

const often = 1000, sometimes = 10_000, afterTrouble = 3000;

let hooks = {};
let poll = null;
let list = null;
let first = true;
// visit counts how often the list was opened or left: an answer to an earlier one's question is nobody's.
let visit = 0;
// wanted is the desktop that is opened as soon as it runs; asked are those something has just been asked of, until they change.
let wanted = '';
const asked = new Map();
const cards = new Map();

// prepare is called once: open(desktop) shows one, signedOut(why) and leave() end the session.
export function prepare(given) {
  hooks = given;
  poll = new Poll(look);
  byId('sign-out').addEventListener('click', () => hooks.leave());
}

export function show(person) {
  title('Your desktops');
  byId('who').textContent = person.displayName || person.userName;
  byId('ends').textContent = `You stay signed in until ${clock(person.ends)} at most.`;
  byId('desktops').hidden = false;
  first = true;
  visit++;
  poll.start();
}

export function hide() {
  visit++;
  poll.stop();
  byId('desktops').hidden = true;
  wanted = '';
  asked.clear();
}

// forget drops what the page knows of the person.
export function forget() {
  list = null;
  cards.clear();
  byId('cards').replaceChildren();
  for (const id of ['who', 'ends', 'desktops-news']) byId(id).textContent = '';
}

function clock(text) {
  const at = new Date(text);
  const day = at.toDateString() === new Date().toDateString() ? '' : `${at.toLocaleDateString([], { weekday: 'long' })}, `;
  return day + at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
}

// look asks for the list and gives the time until it is to be asked for again.
async function look() {
  const asking = visit;
  try {
    const answer = await api.desktops();
    // Somebody who has left meanwhile is shown nothing, and leaves nothing behind.
    if (asking !== visit) return sometimes;
    list = answer;
    say(byId('desktops-message'), '');
  } catch (problem) {
    if (asking !== visit) return sometimes;
    if (problem.code === 'signed-out') {
      hooks.signedOut();
      return sometimes;
    }
    say(byId('desktops-message'), problem.message);
    return afterTrouble;
  }
  draw();
  const ready = list.find((d) => d.id === wanted && d.canConnect);
  if (ready) {
    wanted = '';
    hooks.open(ready);
  }
  return list.some((d) => state(d).changing) || asked.size > 0 ? often : sometimes;
}

function draw() {
  const root = byId('cards');
  for (const [id, card] of cards) {
    if (!list.some((d) => d.id === id)) {
      card.remove();
      cards.delete(id);
    }
  }
  list.forEach((d, i) => {
    if (!cards.has(d.id)) cards.set(d.id, newCard(d.id));
    const card = cards.get(d.id);
    if (root.children[i] !== card) root.insertBefore(card, root.children[i] ?? null);
    fill(card, d);
  });
  root.hidden = list.length === 0;
  byId('none').hidden = list.length > 0;
  byId('desktops-title').textContent = list.length === 1 ? 'Your desktop' : 'Your desktops';
  if (first) {
    first = false;
    focusFirst();
  }
}

// focusFirst makes connecting one key press when there is only one thing to press.
function focusFirst() {
  const ready = list.filter((d) => d.canConnect), one = ready.length === 1 ? ready[0] : list.length === 1 ? list[0] : null;
  const button = one && cards.get(one.id).querySelector('.go');
  if (button && !button.hidden) button.focus();
  else byId('desktops-title').focus();
}

function newCard(id) {
  const card = byId('card').content.firstElementChild.cloneNode(true);
  card.querySelector('h2').id = `name-${id}`;
  card.querySelector('.progress').setAttribute('aria-labelledby', `name-${id}`);
  card.querySelector('.go').addEventListener('click', () => go(id));
  card.querySelector('.restart').addEventListener('click', () => restart(id));
  return card;
}

const find = (id) => list?.find((d) => d.id === id);

function fill(card, d) {
  const known = asked.get(d.id);
  if (known && known.state !== d.state) asked.delete(d.id);
  const waiting = asked.get(d.id), is = waiting ? waiting.is : state(d);
  const coming = wanted === d.id;
  say(card.querySelector('h2'), d.name);
  // A computer name that only repeats the desktop's says nothing.
  say(card.querySelector('.facts'), [d.computerName, d.bundle].filter((s) => s && s !== d.name).join(' · '));
  const label = card.querySelector('.label');
  if (label.textContent !== '' && label.textContent !== is.label) byId('desktops-news').textContent = `${d.name}: ${is.label}.`;
  label.textContent = is.label;
  card.dataset.tone = is.tone;
  say(card.querySelector('.sentence'), coming ? 'It opens by itself as soon as it runs.' : is.sentence);
  const progress = card.querySelector('.progress');
  progress.hidden = !is.changing;
  progress.setAttribute('aria-valuetext', is.label);
  button(card.querySelector('.go'), d, waiting, coming);
  const again = card.querySelector('.restart');
  again.hidden = !d.canRestart || Boolean(waiting);
  again.setAttribute('aria-label', `Restart ${d.name}`);
}

function button(go, d, waiting, coming) {
  const text = coming ? 'Do not open' : waiting ? '' : d.canConnect ? 'Connect' : d.canStart ? 'Start' : '';
  go.classList.toggle('quiet', coming);
  if (go.textContent === text && go.hidden === (text === '')) return;
  // What has the focus keeps it as long as there is something to press.
  const focused = document.activeElement === go;
  say(go, text);
  go.setAttribute('aria-label', `${text} ${d.name}`);
  if (focused && go.hidden) byId('desktops-title').focus();
}

async function go(id) {
  const d = find(id);
  if (!d) return;
  if (wanted === id) {
    wanted = '';
    draw();
  } else if (d.canConnect) {
    hooks.open(d);
  } else if (d.canStart) {
    wanted = id;
    await request(d, () => api.start(id), { label: 'Starting', sentence: '', tone: 'busy', changing: true });
  }
}

async function restart(id) {
  const d = find(id);
  if (!d || !await ask({ title: `Restart ${d.name}?`, text: 'Programs on it are closed. What has not been saved in them is lost.', yes: 'Restart' })) return;
  await request(d, () => api.restart(id), { label: 'Restarting', sentence: 'It will be back in a moment.', tone: 'busy', changing: true });
}

// request asks for something and shows the state that will follow until the server tells of it.
async function request(d, call, is) {
  asked.set(d.id, { state: d.state, is });
  draw();
  try {
    await call();
    // Should it be there and gone again between two looks, the server's word counts.
    setTimeout(() => asked.delete(d.id) && poll.now(), 5000);
  } catch (problem) {
    asked.delete(d.id);
    wanted = '';
    if (problem.code === 'signed-out') return hooks.signedOut();
    await poll.now();
    say(byId('desktops-message'), problem.message);
    refer(byId('desktops-message'), problem.id);
    return;
  }
  poll.now();
}
