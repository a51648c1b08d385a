// The service's API: every request carries the key of this page; whatever is refused becomes a Refusal.

const KEPT = "vocal-restyler key";

export class Refusal extends Error {
  // status: of HTTP, or 0 where no answer came. line: the server's own. field: what it is about, or null.
  // retryAfterS: when to try again, or null.
  constructor(status, line, field = null, retryAfterS = null) {
    super(line);
    Object.assign(this, { status, line, field, retryAfterS });
  }
}

async function refusal(response) {
  const said = await response.json().catch(() => ({}));
  const wait = Number.parseFloat(response.headers.get("Retry-After"));
  const line = typeof said.error === "string" ? said.error : `the server answered ${response.status}`;
  return new Refusal(response.status, line, said.field ?? null, Number.isFinite(wait) ? wait : null);
}

// The key in the address (#key=…) is moved to where only this tab sees it; what else stands there stays.
export function takeKey() {
  const told = new URLSearchParams(location.hash.slice(1));
  const key = told.get("key");
  if (key === null) return;
  sessionStorage.setItem(KEPT, key);
  told.delete("key");
  const rest = told.toString();
  history.replaceState(null, "", location.pathname + location.search + (rest && `#${rest}`));
}

export const keepKey = (key) => sessionStorage.setItem(KEPT, key);

// A key as it is sent: signs that no key has would make the browser refuse the header.
function authorization() {
  const key = sessionStorage.getItem(KEPT) ?? "";
  return { Authorization: `Bearer ${/^[\x21-\x7e]*$/.test(key) ? key : ""}` };
}

export async function call(method, path, { body, headers = {}, signal } = {}) {
  let response;
  try {
    response = await fetch(`/v1${path}`, {
      method,
      signal,
      cache: "no-store",
      headers: { ...authorization(), ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

// What the server said in JSON; null where it said nothing.
export async function ask(method, path, options) {
  const text = await read(await call(method, path, options), "text");
  return text ? JSON.parse(text) : null;
}

// The body of an answer; a connection that breaks off meanwhile is a Refusal too.
export async function read(response, as) {
  try {
    return await response[as]();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "");
  }
}

// Sends a file's bytes; progress(share of them that is sent). XMLHttpRequest, because fetch doesn't tell.
export function upload(name, blob, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/v1/takes?name=${encodeURIComponent(name)}`);
    request.setRequestHeader("Authorization", authorization().Authorization);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => progress(event.lengthComputable ? event.loaded / event.total : 0);
    request.onerror = () => reject(new Refusal(0, ""));
    request.onload = () => {
      const headers = new Headers(request.getResponseHeader("Retry-After") ? { "Retry-After": request.getResponseHeader("Retry-After") } : {});
      if (request.status === 201) resolve(JSON.parse(request.responseText));
      else refusal(new Response(request.responseText, { status: Math.max(200, request.status), headers })).then(reject);
    };
    request.send(blob);
  });
}

// The file name of an answer (RFC 5987), else `otherwise`.
function fileName(response, otherwise) {
  const said = response.headers.get("Content-Disposition") ?? "";
  const coded = /filename\*=UTF-8''([^;]+)/i.exec(said);
  try {
    if (coded) return decodeURIComponent(coded[1].trim());
  } catch { /* not as RFC 5987 wants it */ }
  return /filename="([^"]+)"/.exec(said)?.[1] ?? otherwise;
}

// Downloads by a link of this page's own making: a plain link could not carry the key.
export async function save(path, otherwise) {
  const response = await call("GET", path);
  const name = fileName(response, otherwise);
  const url = URL.createObjectURL(await read(response, "blob"));
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  return name;
}
