// Short names for what every page part does with elements. Text goes in as text, never as markup.

export const byId = (id) => document.getElementById(id);

// say sets an element's text, and hides it when there is none.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = text === '';
}

// refer adds, small, the id of a decision: who quotes it to an administrator is told why ("carrel explain").
export function refer(element, id) {
  if (!id) return;
  const at = document.createElement('span'), text = document.createElement('span');
  at.className = 'reference';
  text.textContent = id;
  at.append('Reference for your administrator: ', text);
  element.append(' ', at);
}

export function icon(button, name) {
  button.querySelector('use').setAttribute('href', `#i-${name}`);
}

export function title(...parts) {
  document.title = [...parts, 'Carrel'].join(' · ');
}

let toastTimer = null;

// toast shows a passing remark.
export function toast(text, ms = 4000) {
  const at = byId('toast');
  at.textContent = text;
  at.classList.add('shown');
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => at.classList.remove('shown'), ms);
}

// ask asks a yes-or-no question; false when it is dismissed.
export function ask({ title: head, text, yes }) {
  const dialog = byId('ask');
  byId('ask-title').textContent = head;
  byId('ask-text').textContent = text;
  byId('ask-yes').textContent = yes;
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true }));
}
