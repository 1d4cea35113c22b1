// The sign-in page: registration code, user name, password, and the change of a password that has to be changed. Passwords are in their
// fields and, between the two steps, in one variable; they are cleared as soon as the directory has answered.

import * as api from './api.mjs';
import { byId, icon, refer, say, title } from './dom.mjs';
import { recall, remember } from './memory.mjs';
import { minutes } from './words.mjs';

const at = {};
let done = () => {};
// first is what somebody who has to choose a new password has entered before; null: nobody has to.
let first = null;
let busy = false;

// prepare is called once. signedIn is told who has signed in.
export function prepare(signedIn) {
  done = signedIn;
  for (const id of ['signin', 'signin-notice', 'login-form', 'change-form', 'code', 'code-field', 'code-known', 'code-shown', 'user', 'password', 'next', 'again',
    'change-lead', 'change-user']) at[id] = byId(id);
  for (const form of [at['login-form'], at['change-form']]) {
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      submit(form);
    });
    for (const input of form.querySelectorAll('input')) input.addEventListener('input', () => input.removeAttribute('aria-invalid'));
  }
  byId('code-other').addEventListener('click', () => {
    remember('code', '');
    showCode('');
    at.code.focus();
  });
  byId('change-cancel').addEventListener('click', () => {
    step(null);
    focusFirst();
  });
  for (const button of document.querySelectorAll('.show')) button.addEventListener('click', () => reveal(button, button.getAttribute('aria-pressed') !== 'true'));
  for (const input of [at.password, at.next, at.again]) {
    for (const type of ['keydown', 'keyup']) input.addEventListener(type, caps);
    input.addEventListener('blur', () => { hint(input).textContent = ''; });
  }
}

// show opens the page; notice says why somebody who was signed in is here, same that it is likely the same person again.
export function show(notice = '', same = false) {
  title('Sign in');
  if (!same) at.user.value = '';
  say(at['signin-notice'], notice);
  step(null);
  showCode(recall('code'));
  at.signin.hidden = false;
  focusFirst();
}

export function hide() {
  at.signin.hidden = true;
  forget();
}

function forget() {
  first = null;
  for (const input of [at.password, at.next, at.again]) {
    input.value = '';
    hint(input).textContent = '';
  }
  at['change-lead'].textContent = at['change-user'].value = '';
  for (const button of document.querySelectorAll('.show')) reveal(button, false);
}

function showCode(code) {
  at.code.value = at['code-shown'].textContent = code;
  at['code-known'].hidden = code === '';
  at['code-field'].hidden = code !== '';
}

function focusFirst() {
  for (const input of [at.code, at.user, at.password]) {
    if (input.offsetParent !== null && (input.value === '' || input === at.password)) return input.focus();
  }
}

// step shows the change of a password for whoever entered the given, or the first form for nobody.
function step(entered) {
  forget();
  first = entered;
  at['login-form'].hidden = Boolean(entered);
  at['change-form'].hidden = !entered;
  for (const form of [at['login-form'], at['change-form']]) message(form, '');
}

function message(form, text, id = '') {
  const at = form.querySelector('.message');
  at.textContent = text;
  refer(at, id);
  if (text !== '') at.scrollIntoView({ block: 'nearest' });
}

// wrong says what is wrong in a field; it gives null.
function wrong(input, text) {
  input.setAttribute('aria-invalid', 'true');
  message(input.form, text);
  input.focus();
  return null;
}

const hint = (input) => input.form.querySelector('.caps');

function caps(event) {
  const text = event.getModifierState?.('CapsLock') ? 'Caps Lock is on.' : '', at = hint(event.target);
  if (at.textContent !== text) at.textContent = text;
}

function reveal(button, on) {
  byId(button.getAttribute('aria-controls')).type = on ? 'text' : 'password';
  button.setAttribute('aria-pressed', String(on));
  icon(button, on ? 'eye-off' : 'eye');
}

async function submit(form) {
  if (busy) return;
  const credentials = first ? changed() : entered();
  if (!credentials) return;
  working(form, true);
  message(form, '');
  let person = null, problem = null;
  try {
    person = await api.signIn(credentials);
  } catch (caught) {
    problem = caught;
  }
  working(form, false);
  if (problem) return refused(form, problem, credentials);
  remember('code', credentials.code);
  forget();
  done(person);
}

// entered and changed give what to send, or null when something is missing.
function entered() {
  const code = at.code.value.trim().toUpperCase(), userName = at.user.value.trim(), password = at.password.value;
  if (code === '') return wrong(at.code, 'Enter your registration code.');
  if (userName === '') return wrong(at.user, 'Enter your user name.');
  if (password === '') return wrong(at.password, 'Enter your password.');
  return { code, userName, password };
}

function changed() {
  const next = at.next.value;
  if (next === '') return wrong(at.next, 'Enter a new password.');
  if (next === first.password) return wrong(at.next, 'The new password must be another one.');
  if (next !== at.again.value) return wrong(at.again, 'The two new passwords are not the same.');
  return { ...first, newPassword: next };
}

function refused(form, problem, sent) {
  switch (problem.code) {
    case 'password-change':
      step({ code: sent.code, userName: sent.userName, password: sent.password });
      at['change-user'].value = sent.userName;
      at['change-lead'].textContent = `Signing in as ${sent.userName}. ${problem.message}`;
      return at.next.focus();
    case 'password-weak':
      at.next.value = at.again.value = '';
      message(form, problem.message, problem.id);
      return at.next.focus();
    case 'refused':
      // After a change the old password may be the wrong one by now: everything is asked for again.
      step(null);
      message(at['login-form'], problem.message, problem.id);
      return at.password.focus();
    case 'too-many-attempts':
      return message(form, `Too many attempts. Try again in ${minutes(problem.retryAfter || 300)}.`, problem.id);
    default:
      return message(form, problem.message, problem.id);
  }
}

function working(form, on) {
  busy = on;
  const go = form.querySelector('.go');
  form.setAttribute('aria-busy', String(on));
  go.classList.toggle('busy', on);
  go.setAttribute('aria-disabled', String(on));
  // Read-only and not disabled: what is disabled loses the focus.
  for (const input of form.querySelectorAll('input:not(#change-user)')) input.readOnly = on;
}
