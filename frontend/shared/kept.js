// What a page keeps in its tab, over reloads and the way to the issuer and back. A browser that keeps nothing for the
// page (site data blocked, a sandboxed frame) throws at the first touch: then it is kept until the page ends.

const memory = new Map();

function usable() {
  try {
    sessionStorage.setItem("kept", "");
    sessionStorage.removeItem("kept");
    return sessionStorage;
  } catch {
    return null;
  }
}

const storage = usable();

/** Whether what is kept outlives the page. */
export const lasting = storage !== null;

/** What was kept under a name, or null. */
export function recall(name) {
  try {
    return JSON.parse(storage ? storage.getItem(name) : (memory.get(name) ?? null));
  } catch {
    return null;
  }
}

/** Keeps a value that JSON can hold. */
export function keep(name, value) {
  const text = JSON.stringify(value);
  try {
    if (storage) storage.setItem(name, text);
    else memory.set(name, text);
  } catch {
    // The tab's room is used up: the page goes on with what it has.
  }
}

/** Takes out what was kept under a name. */
export function take(name) {
  const value = recall(name);
  storage?.removeItem(name);
  memory.delete(name);
  return value;
}
