// OpenID Connect, code flow with PKCE. Loaded only when somebody signs in. session.js keeps what is needed over the way
// to the issuer and back (never a token), and takes it out again on arrival.

import * as oauth from "/vendor/oauth4webapi.js";

import { config, deadline } from "/shared/feed.js";
import { knowsTime, learnTime, now } from "/shared/clock.js";

const TIME_TIMEOUT_MS = 5_000;

/** Learns the server's time where it is not certain. The time of a copy in the browser would be old. */
async function askTime() {
  if (knowsTime()) return;
  await fetch("/config.json", { cache: "no-store", signal: deadline(TIME_TIMEOUT_MS) }).then(learnTime).catch(() => {});
}

/**
 * The clock that judges a token: the server's, and never the device's alone. Where no answer has told the server's
 * time, every moment in the token is tolerated, since the token has come straight from the issuer.
 */
function clock() {
  if (!knowsTime()) return { [oauth.clockTolerance]: Number.MAX_SAFE_INTEGER };
  return { [oauth.clockSkew]: Math.round((now() - Date.now()) / 1000) };
}

async function discover() {
  const { issuer, clientId, scope, crewScope } = await config();
  const url = new URL(issuer);
  // http is for the issuer on this machine.
  const options = { [oauth.allowInsecureRequests]: ["localhost", "127.0.0.1"].includes(url.hostname) };
  const server = await oauth.processDiscoveryResponse(url, await oauth.discoveryRequest(url, options));
  return { server, client: { client_id: clientId }, options, scope, crewScope };
}

/** The issuer's address for a person to sign in at, and what their return needs. */
async function prepare(crew) {
  const { server, client, scope, crewScope } = await discover();
  const kept = {
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
    redirect_uri: kept.back,
    scope: crew ? crewScope : scope,
    state: kept.state,
    nonce: kept.nonce,
    code_challenge: await oauth.calculatePKCECodeChallenge(kept.verifier),
    code_challenge_method: "S256",
  });
  return { url, kept };
}

/** Sends the person to the issuer, and gives what their return needs to `keep`. */
export async function leave(crew, keep) {
  const { url, kept } = await prepare(crew);
  keep(kept);
  location.assign(url);
}

/** Sends another window, which this page has opened, and redeems what it comes back with. */
export async function leaveIn(popup, crew) {
  if (!popup) throw new Error("no window to sign in with");
  try {
    const { url, kept } = await prepare(crew);
    popup.location.replace(url);
    return await arrive({ url: await answerTo(kept), kept });
  } finally {
    popup.close();
  }
}

/** The address that the issuer sends the other window back to, as that tells it. */
function answerTo({ state }) {
  return new Promise((resolve) => {
    addEventListener("message", function take({ origin, data }) {
      if (origin !== location.origin || !data?.answer) return;
      if (new URL(data.answer).searchParams.get("state") !== state) return;
      removeEventListener("message", take);
      resolve(data.answer);
    });
  });
}

/** Redeems the code in the issuer's answer, with what was kept. Null: this is the other window, and has told. */
export async function arrive({ url, kept }) {
  if (!kept && window.opener) {
    // The code goes to a page of this origin and to no other.
    window.opener.postMessage({ answer: url }, location.origin);
    return null;
  }
  if (!kept) throw new Error("no sign-in under way");
  const [{ server, client, options }] = await Promise.all([discover(), askTime()]);
  const checked = oauth.validateAuthResponse(server, client, new URL(url), kept.state);
  const response = await oauth.authorizationCodeGrantRequest(
    server,
    client,
    oauth.None(),
    checked,
    kept.back,
    kept.verifier,
    options,
  );
  const tokens = await oauth.processAuthorizationCodeResponse(server, { ...client, ...clock() }, response, {
    expectedNonce: kept.nonce,
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
