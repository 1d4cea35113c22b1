// What the portal says about the states of desktops and the ends of connections, in plain words.

// tone is one of good, busy, off, bad; changing: something else will follow by itself.
const states = {
  PENDING: ['Being set up', 'The first time this takes a few minutes.', 'busy'],
  AVAILABLE: ['Ready', '', 'good'],
  STARTING: ['Starting', 'It will be ready in a moment.', 'busy'],
  STOPPING: ['Stopping', 'What you have open is being saved.', 'busy'],
  STOPPED: ['Stopped', 'Everything is where you left it.', 'off'],
  REBOOTING: ['Restarting', 'It will be back in a moment.', 'busy'],
  REBUILDING: ['Being rebuilt', 'It is made anew from its image. Your files are kept.', 'busy'],
  RESTORING: ['Being restored', 'It is put back to a copy that was made earlier.', 'busy'],
  UPDATING: ['Updating', 'It will be back when that is done.', 'busy'],
  MAINTENANCE: ['Maintenance', 'It comes back by itself.', 'busy'],
  ADMIN_MAINTENANCE: ['Maintenance', 'Your administrator is working on this desktop.', 'off'],
  IMPAIRED: ['Not answering', 'It does not work as it should. A restart may help.', 'bad'],
  UNHEALTHY: ['Not answering', 'A restart may help.', 'bad'],
  SUSPENDED: ['Suspended', 'Your administrator knows more.', 'off'],
  TERMINATING: ['Being removed', '', 'busy'],
  TERMINATED: ['Removed', '', 'off'],
  ERROR: ['Failed', 'Something is wrong with this desktop. Ask your administrator.', 'bad'],
};

// state tells about a desktop: { label, sentence, tone, changing }.
export function state(desktop) {
  const [label, sentence, tone] = states[desktop.state] ?? [sentenceCase(desktop.state), '', 'off'];
  return { label, sentence: desktop.detail || sentence, tone, changing: tone === 'busy' };
}

function sentenceCase(word) {
  const s = String(word).replaceAll('_', ' ').toLowerCase();
  return s.charAt(0).toUpperCase() + s.slice(1);
}

// ends are the ends of a connection after which nothing happens by itself: [title, text, what the button does].
const ends = {
  'taken-over': ['Open in another window', 'You opened this desktop somewhere else. Only one window can show it at a time.', 'Use it here'],
  'rule-changed': ['Your connection was ended', 'A rule of your organisation about who may connect, and from where, has changed.', 'Try again'],
  refused: ['This desktop cannot be opened from here', 'A rule of your organisation does not allow it. Your administrator knows more.', 'Try again'],
  'no-desktop': ['This desktop is no longer yours', 'It has been removed, or given to somebody else.', ''],
  'gave-up': ['No connection', 'Your desktop could not be reached for two minutes. What you had open on it is still there.', 'Try again'],
  'no-viewer': ['The viewer is missing', 'This build of the portal has no desktop viewer. An administrator can build it in: run web/portal/assets and build again.', ''],
  'no-browser': ['This browser cannot show desktops', 'The viewer does not start in it. Use a current version of Chrome, Edge, Firefox or Safari.', 'Try again'],
  broken: ['The picture broke off', 'Something in the connection went wrong again and again. What you had open on your desktop is still there.', 'Try again'],
};

export function end(why) {
  const [title, text, go] = ends[why] ?? ends['gave-up'];
  return { title, text, go };
}

const drops = {
  unreachable: 'The screen of your desktop does not answer.',
  'shutting-down': 'The portal is being restarted.',
  busy: 'Another window still holds the screen.',
  protocol: 'The connection broke off.',
  offline: 'The network connection is gone.',
};

// drop says why a connection is being tried again.
export const drop = (why) => drops[why] ?? 'The connection was lost.';

// signedOut says why somebody is on the sign-in page again.
export function signedOut(why) {
  if (why === 'by-choice') return 'You are signed out.';
  return 'You have been signed out. Sign in again to go on where you were.';
}

// latency puts milliseconds into words: { text, tone, spoken }.
export function latency(ms) {
  if (!(ms >= 0)) return { text: '', tone: 'off', spoken: 'Latency not known yet' };
  const [tone, word] = ms < 60 ? ['good', 'good'] : ms < 150 ? ['busy', 'fair'] : ['bad', 'slow'];
  const shown = ms < 1 ? '<1' : String(Math.round(ms));
  return { text: `${shown} ms`, tone, spoken: `Latency ${ms < 1 ? 'below 1' : shown} milliseconds, ${word}` };
}

// minutes says how long a number of seconds is.
export function minutes(seconds) {
  if (seconds < 90) return 'a minute';
  return `${Math.ceil(seconds / 60)} minutes`;
}

// noClipboard is said of a desktop whose guest has nothing that takes part.
export const noClipboard = 'This desktop has no clipboard for texts from elsewhere: nothing in it answers. Texts can be typed there.';

// clipboard says what a policy allows: { toDesktop, fromDesktop, text }.
export function clipboard(policy) {
  const toDesktop = policy === 'to-desktop' || policy === 'both';
  const fromDesktop = policy === 'from-desktop' || policy === 'both';
  let text = 'Your organisation does not let text be copied to or from this desktop.';
  if (toDesktop && fromDesktop) text = 'What you copy on your desktop appears here. What you write here can be sent to it.';
  else if (toDesktop) text = 'Your organisation lets you copy text to this desktop, but not from it.';
  else if (fromDesktop) text = 'Your organisation lets you copy text from this desktop, but not to it.';
  return { toDesktop, fromDesktop, text };
}
