// A certified OpenID provider, on this machine: https://github.com/panva/node-oidc-provider

import { once } from 'node:events';
import { Provider } from 'oidc-provider';
import { freePort } from './chromium.mjs';

/** Who is in which groups. Everybody who signs in is somebody; the password does not matter. */
const GROUPS = { carol: ['migration-team', 'staff'] };

/** Starts a provider that knows one client. */
export async function startProvider({ clientId, secret, redirect }) {
  const port = await freePort();
  const issuer = `http://127.0.0.1:${port}`;
  const provider = new Provider(issuer, {
    clients: [{ client_id: clientId, client_secret: secret, redirect_uris: [redirect], post_logout_redirect_uris: [new URL('/sign-in?left=true', redirect).href], response_types: ['code'], grant_types: ['authorization_code'] }],
    claims: { openid: ['sub'], profile: ['preferred_username', 'groups'], email: ['email'] },
    // Without it, what was asked for by scope is told elsewhere.
    conformIdTokenClaims: false,
    pkce: { required: () => true },
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({ sub: id, preferred_username: `${id}@example.com`, groups: GROUPS[id] ?? [] }),
    }),
  });
  const server = provider.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return {
    issuer,
    async stop() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
