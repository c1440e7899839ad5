// OpenID Connect, code flow with PKCE. During the redirect session.js stores the pending sign-in (never a token).

import { config } from "/shared/files.js";
import { deadline } from "/shared/fallbacks.js";
import { knowsTime, learnTime, now } from "/shared/clock.js";

const TIME_TIMEOUT_MS = 5_000;

/** The library, loaded at the first sign-in. */
let oauth;

/** Learns the server's time if it is uncertain. A cached answer would have an old time. */
async function learnServerTime() {
  if (knowsTime()) return;
  await fetch("/config.json", { cache: "no-store", signal: deadline(TIME_TIMEOUT_MS) }).then(learnTime).catch(() => {});
}

/**
 * Returns the clock that validates a token: the server's, never the device's alone. While the server's time is unknown,
 * any time in the token is accepted, since the token comes directly from the issuer.
 */
function clock() {
  if (!knowsTime()) return { [oauth.clockTolerance]: Number.MAX_SAFE_INTEGER };
  return { [oauth.clockSkew]: Math.round((now() - Date.now()) / 1000) };
}

async function discover() {
  oauth = await import("/vendor/oauth4webapi.js");
  const { issuer, clientId, scope, crewScope } = await config();
  const url = new URL(issuer);
  // http is only for a local issuer.
  const options = { [oauth.allowInsecureRequests]: ["localhost", "127.0.0.1"].includes(url.hostname) };
  const server = await oauth.processDiscoveryResponse(url, await oauth.discoveryRequest(url, options));
  return { server, client: { client_id: clientId }, options, scope, crewScope };
}

/** Returns the issuer's address for the sign-in, and the pending sign-in, which the return needs. */
async function prepare(crew) {
  const { server, client, scope, crewScope } = await discover();
  const pending = {
    verifier: oauth.generateRandomCodeVerifier(),
    state: oauth.generateRandomState(),
    nonce: oauth.generateRandomNonce(),
    address: location.search + location.hash,
    back: location.origin + location.pathname,
  };
  const url = new URL(server.authorization_endpoint);
  url.search = new URLSearchParams({
    response_type: "code",
    client_id: client.client_id,
    redirect_uri: pending.back,
    scope: crew ? crewScope : scope,
    state: pending.state,
    nonce: pending.nonce,
    code_challenge: await oauth.calculatePKCECodeChallenge(pending.verifier),
    code_challenge_method: "S256",
  });
  return { url, pending };
}

/** Redirects to the issuer. `store(pending)`: called before. */
export async function redirect(crew, store) {
  const { url, pending } = await prepare(crew);
  store(pending);
  location.assign(url);
}

/** Signs in through a popup, which this page has opened. */
export async function usePopup(popup, crew) {
  if (!popup) throw new Error("no window to sign in with");
  try {
    const { url, pending } = await prepare(crew);
    popup.location.replace(url);
    return await redeem({ url: await answerTo(pending), pending });
  } finally {
    popup.close();
  }
}

/** Resolves to the address that the popup was redirected back to, from its message. */
function answerTo({ state }) {
  return new Promise((resolve) => {
    addEventListener("message", function receive({ origin, data }) {
      if (origin !== location.origin || !data?.answer) return;
      if (new URL(data.answer).searchParams.get("state") !== state) return;
      removeEventListener("message", receive);
      resolve(data.answer);
    });
  });
}

/** Redeems the code in the issuer's answer. Returns null in the popup, which passes its answer to the opener. */
export async function redeem({ url, pending }) {
  if (!pending && window.opener) {
    // Only a page of this origin may get the code.
    window.opener.postMessage({ answer: url }, location.origin);
    return null;
  }
  if (!pending) throw new Error("no sign-in under way");
  const [{ server, client, options }] = await Promise.all([discover(), learnServerTime()]);
  const checked = oauth.validateAuthResponse(server, client, new URL(url), pending.state);
  const response = await oauth.authorizationCodeGrantRequest(
    server,
    client,
    oauth.None(),
    checked,
    pending.back,
    pending.verifier,
    options,
  );
  const tokens = await oauth.processAuthorizationCodeResponse(server, { ...client, ...clock() }, response, {
    expectedNonce: pending.nonce,
    requireIdToken: true,
  });
  const claims = oauth.getValidatedIdTokenClaims(tokens);
  return {
    token: tokens.access_token,
    name: claims.name ?? claims.preferred_username ?? claims.email ?? claims.sub,
    voterId: claims.sub,
    lifetimeS: tokens.expires_in ?? 3600,
  };
}
