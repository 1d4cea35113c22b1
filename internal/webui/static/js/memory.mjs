// What this device remembers between visits: the registration code and how the person likes to look at a desktop. Nothing else is kept.

const key = (name) => `carrel.${name}`;

export function recall(name) {
  try {
    return localStorage.getItem(key(name)) ?? '';
  } catch {
    return ''; // Storage is off.
  }
}

export function remember(name, value) {
  try {
    if (value === '') localStorage.removeItem(key(name));
    else localStorage.setItem(key(name), value);
  } catch {
    // Storage is off or full: it is asked for again next time.
  }
}
