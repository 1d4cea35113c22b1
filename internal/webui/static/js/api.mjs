// The portal's calls. Every one answers with what the server said, or throws a Problem.

// Problem is a call that did not do what it was to do. code is for the page, message for the person, id, if there is one, for an administrator.
export class Problem extends Error {
  constructor(code, message, { status = 0, retryAfter = 0, id = '' } = {}) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
    this.id = id;
  }
}

// Longer than the server waits for a directory.
const timeout = 30_000;

async function call(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: body === undefined ? {} : { 'Content-Type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: 'same-origin',
      cache: 'no-store',
      redirect: 'error',
      signal: AbortSignal.timeout(timeout),
    });
  } catch {
    throw new Problem('offline', 'The portal cannot be reached. Check your network connection.');
  }
  let answer = null;
  try {
    answer = await response.json();
  } catch {
    // Not JSON: something between here and the portal has answered, or there is no portal.
  }
  if (response.ok && answer !== null) return answer;
  const error = answer?.error ?? {};
  throw new Problem(error.code ?? 'unknown', error.message ?? 'That did not work. Try again in a moment.', {
    status: response.status,
    id: error.id ?? '',
    retryAfter: Number(response.headers.get('Retry-After')) || 0,
  });
}

const desktop = (id, what) => `api/desktops/${encodeURIComponent(id)}/${what}`;

export const whoAmI = () => call('GET', 'api/session');
export const signIn = (credentials) => call('POST', 'api/session', credentials);
export const signOut = () => call('DELETE', 'api/session');
export const desktops = async () => (await call('GET', 'api/desktops')).desktops;
export const start = (id) => call('POST', desktop(id, 'start'), {});
export const restart = (id) => call('POST', desktop(id, 'restart'), {});
export const connect = (id) => call('POST', desktop(id, 'connect'), {});

// screenURL is where the WebSocket of every screen is opened. What opens it is the ticket, sent on it.
export const screenURL = () => new URL('api/screen', location.href.replace(/^http/, 'ws').replace(/#.*/, '')).href;
