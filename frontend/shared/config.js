// Where the pages run: /config.json, written when they are published.

let loading = null;

export function config() {
  loading ??= fetch("/config.json").then((response) => {
    if (!response.ok) throw new Error(`config.json: ${response.status}`);
    return response.json();
  });
  loading.catch(() => (loading = null));
  return loading;
}
