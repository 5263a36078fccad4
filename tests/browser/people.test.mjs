// People on the real hub: passwords, second factors, an identity provider, roles, and what nobody may do.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { axe, freePort, openBrowser, openPage, picture } from './chromium.mjs';
import { startRelay } from './mail.mjs';
import { programPath, start } from './programs.mjs';
import { startProvider } from './provider.mjs';

const MINUTE = 60_000;
const SECRET = 'a secret of client and provider';

let browser;
let folder;
let provider;
let relay;
let hub;
let address;

function command(args, input = '') {
  const [noun, verb, ...rest] = args;
  const options = { input, encoding: 'utf8' };
  const done = spawnSync(programPath('orglift-hub'), [noun, verb, '--dir', folder, ...rest], options);
  assert.equal(done.status, 0, done.stderr);
  return done.stdout.trim();
}

before(
  async () => {
    folder = await mkdtemp(join(tmpdir(), 'orglift-people-'));
    browser = await openBrowser();
    const port = await freePort();
    address = `http://127.0.0.1:${port}`;
    provider = await startProvider({ clientId: 'orglift', secret: SECRET, redirect: `${address}/sign-in/oidc` });
    await writeFile(join(folder, 'oidc-secret'), `${SECRET}\n`, { mode: 0o600 });
    relay = await startRelay({ folder, user: 'orglift', password: 'stamps' });
    await writeFile(join(folder, 'smtp-password'), 'stamp\n', { mode: 0o600 });
    await writeFile(
      join(folder, 'hub.toml'),
      `[sign_in]
second_factor = "approvers"

[oidc]
issuer = "${provider.issuer}"
client_id = "orglift"
client_secret_file = "oidc-secret"
console = "${address}"
label = "Example ID"

[[oidc.grants]]
claim = "groups"
value = "migration-team"
role = "operator"

[smtp]
host = "localhost"
port = ${relay.port}
from = "Orglift <orglift@example.com>"
user = "orglift"
password_file = "smtp-password"
ca_file = "mail-ca.pem"
`,
    );
    await mkdir(join(folder, 'cloud'));
    command(['organization', 'add', '--name', 'city', '--reach', 'roster', '--region', 'eu-central-1', '--account', '210000000001=harbour']);
    command(['user', 'add', '--name', 'ada', '--role', 'administrator', '--password-stdin', '--one-time'], 'first password');
    command(['user', 'add', '--name', 'glass', '--role', 'administrator', '--password-stdin', '--break-glass'], 'sealed in an envelope');
    const args = ['serve', '--dir', folder, '--ui', `127.0.0.1:${port}`, '--machines', '127.0.0.1:0', '--cloud', `folder:${join(folder, 'cloud')}`];
    hub = await start(programPath('orglift-hub'), args, { ready: /runners reach the hub at/ });
  },
  { timeout: MINUTE },
);

after(async () => {
  await browser?.close();
  await hub?.stop();
  await provider?.stop();
  await relay?.stop();
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** The code that an authenticator app shows, `periods` later than now. */
function codeOf(secret, periods = 0) {
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  const bits = [...secret].map((letter) => letters.indexOf(letter).toString(2).padStart(5, '0')).join('');
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + periods));
  const digest = createHmac('sha1', key).update(counter).digest();
  const number = digest.readUInt32BE(digest.at(-1) & 15) & 0x7fffffff;
  return String(number % 1_000_000).padStart(6, '0');
}

async function signIn(page, name, password) {
  await page.goto(`${address}/sign-in`);
  await page.getByLabel('Name').fill(name);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

/** Looks at a page by all means: nothing on it keeps anybody from using it, whoever that is. */
async function look(page, name) {
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    assert.deepEqual(await axe(page), [], `${name}, ${colorScheme}`);
    await picture(page, `${name}-${colorScheme}`);
  }
}

let totp;
let recoveryCodes;

test('a one-time password is changed and a second factor set up before anything else', { timeout: MINUTE }, async () => {
  const { page } = await openPage(browser);
  await page.goto(`${address}/sign-in`);
  await look(page, 'people-sign-in');
  await signIn(page, 'ada', 'first password');
  await page.waitForURL(`${address}/profile/password`);
  await page.goto(`${address}/servers`);
  await page.waitForURL(`${address}/profile/password`);
  await look(page, 'people-password');
  await page.getByLabel('Password of now').fill('first password');
  await page.getByLabel('New password', { exact: true }).fill('a long way to the mountains');
  await page.getByLabel('New password again').fill('a long way to the mountain');
  await page.getByRole('button', { name: 'Change password' }).click();
  await page.getByText('The new password is not the same both times.').waitFor();
  await page.getByLabel('Password of now').fill('first password');
  await page.getByLabel('New password', { exact: true }).fill('a long way to the mountains');
  await page.getByLabel('New password again').fill('a long way to the mountains');
  await page.getByRole('button', { name: 'Change password' }).click();

  await page.goto(`${address}/servers`);
  await page.waitForURL(`${address}/profile/second-factor`);
  await look(page, 'people-second-factor');
  totp = await page.locator('#totp-secret').textContent();
  await page.getByLabel('The code that the app shows now').fill('000000');
  await page.getByRole('button', { name: 'Use it from now on' }).click();
  await page.getByText('This is not the code of now.').waitFor();
  assert.equal(await page.locator('#totp-secret').textContent(), totp, 'the picture stays');
  const used = codeOf(totp, -1);
  await page.getByLabel('The code that the app shows now').fill(used);
  await page.getByRole('button', { name: 'Use it from now on' }).click();
  await page.getByRole('heading', { name: 'Recovery codes' }).waitFor();
  recoveryCodes = await page.locator('#codes li').allTextContents();
  assert.equal(recoveryCodes.length, 10);
  await look(page, 'people-recovery-codes');
  await page.getByRole('link', { name: 'I have them' }).click();
  await page.waitForURL(`${address}/`);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByText('You are signed out.').waitFor();

  await signIn(page, 'ada', 'a long way to the mountains');
  await page.waitForURL(/sign-in\/further/);
  await look(page, 'people-code');
  await page.getByLabel('Code of the authenticator app').fill(used);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByText('The code is wrong, or was used before.').waitFor();
  await page.getByLabel('Code of the authenticator app').fill(codeOf(totp));
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.waitForURL(`${address}/`);
});

test('people are added, given roles and kept out', { timeout: MINUTE }, async () => {
  const { page, complaints } = await openPage(browser);
  await signIn(page, 'ada', 'a long way to the mountains');
  await page.getByLabel('Code of the authenticator app').fill(recoveryCodes[0]);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.waitForURL(`${address}/`);
  await page.getByRole('link', { name: 'People' }).click();
  await page.getByRole('link', { name: 'Add a user' }).click();
  await page.getByLabel('Name').fill('bob');
  await page.getByLabel('Role').selectOption('operator');
  await look(page, 'people-add');
  await page.getByRole('button', { name: 'Add user' }).click();
  const password = await page.locator('#secret').textContent();
  assert.match(password, /^(\w{4}-){3}\w{4}$/);
  await look(page, 'people-one-time');

  const other = await openPage(browser);
  await signIn(other.page, 'bob', password);
  await other.page.waitForURL(`${address}/profile/password`);

  await page.getByRole('link', { name: 'Back to bob' }).click();
  await page.getByLabel('Role', { exact: true }).selectOption('viewer');
  await page.getByRole('button', { name: 'Give role' }).click();
  await page.getByText('bob is viewer for everything.').waitFor();
  await look(page, 'people-person');
  await page.getByRole('link', { name: 'Disable' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('heading', { name: 'Disable bob' }).waitFor();
  await dialog.getByRole('button', { name: 'Disable user' }).click();
  await page.getByText('Done: Disable bob.').waitFor();
  await other.page.goto(`${address}/profile`);
  await other.page.waitForURL(/\/sign-in\?next=/);

  await page.goto(`${address}/people/ada`);
  await page.getByRole('button', { name: 'Take back administrator for Everything' }).click();
  await page.waitForURL(`${address}/people/ada`);
  await page.goto(`${address}/people`);
  await look(page, 'people');
  await page.goto(`${address}/profile`);
  await look(page, 'people-profile');
  await page.getByLabel('What for').fill('nightly report');
  await page.getByRole('button', { name: 'Make a key' }).click();
  const key = await page.locator('#secret').textContent();
  const asked = (bearer) => fetch(`${address}/api/v1/accounts`, { headers: { authorization: `Bearer ${bearer}` } });
  assert.equal((await asked(key)).status, 200);
  await page.goto(`${address}/profile`);
  await page.getByRole('button', { name: 'Remove the key nightly report' }).click();
  await page.getByText('The key is removed: it counts no more.').waitFor();
  assert.equal((await asked(key)).status, 403);
  await page.getByRole('link', { name: 'Audit log' }).click();
  await page.getByLabel('Search', { exact: true }).fill('disable');
  await page.waitForURL(/q=disable/);
  await page.locator('#live tbody tr', { hasText: 'disable user' }).waitFor();
  await look(page, 'people-audit');
  assert.deepEqual(complaints, []);
});

test('mail tells of what happens', { timeout: MINUTE }, async () => {
  const { page, complaints } = await openPage(browser);
  await signIn(page, 'ada', 'a long way to the mountains');
  await page.getByLabel('Code of the authenticator app').fill(recoveryCodes[1]);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.waitForURL(`${address}/`);
  await page.goto(`${address}/settings/targets`);
  const add = async (to) => {
    await page.getByLabel('Name', { exact: true }).fill('night shift');
    await page.getByLabel('Form').selectOption('Mail');
    await page.getByLabel('Address').fill(to);
    await page.getByRole('button', { name: 'Add', exact: true }).click();
  };
  await add('https://example.com');
  await page.getByText('an address of mail is written NAME@HOST').waitFor();
  await add('night@example.com');
  await page.getByText('“night shift” is told from now on.').waitFor();
  await look(page, 'people-mail');
  // Its password is wrong at first: it may be corrected while the hub runs.
  await page.getByRole('button', { name: 'Try night shift' }).click();
  await page.getByText('“night shift” was not reached').waitFor();
  assert.doesNotMatch(await page.locator('body').textContent(), /stamp/);
  await writeFile(join(folder, 'smtp-password'), 'stamps\n', { mode: 0o600 });
  await page.getByRole('button', { name: 'Try night shift' }).click();
  await page.getByText('It arrived.').waitFor();
  const { to, text } = await relay.next();
  assert.deepEqual(to, ['night@example.com']);
  assert.match(text, /^From: "?Orglift"? <orglift@example.com>\r$/m);
  assert.match(text, /^Subject: s-[0-9a-f]+ in account 210000000001: is TRYING_OUT now\r$/m);
  assert.match(text, /^Auto-Submitted: auto-generated\r$/m);
  assert.deepEqual(complaints, []);
});

test('the identity provider says who somebody is and what that one may do', { timeout: MINUTE }, async () => {
  const { page } = await openPage(browser);
  const enter = async (login) => {
    await page.goto(`${address}/sign-in?next=/jobs`);
    await page.getByRole('link', { name: 'Sign in with Example ID' }).click();
    await page.locator('input[name=login]').fill(login);
    await page.locator('input[name=password]').fill('any');
    await page.getByRole('button').first().click();
    await page.getByRole('button', { name: /continue/i }).click();
  };
  await enter('carol');
  await page.waitForURL(`${address}/jobs`);
  assert.equal(await page.locator('.who-name').textContent(), 'carol@example.comoperator');
  await page.goto(`${address}/profile/password`);
  await page.getByText('signs in at the identity provider').waitFor();

  // Who signs out at the provider, too, is asked for a password there the next time.
  await page.goto(`${address}/profile`);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByText('You are signed out.').waitFor();
  await look(page, 'people-left');
  await page.getByRole('link', { name: 'Sign out at Example ID, too' }).click();
  await page.getByRole('button', { name: /yes, sign me out/i }).click();
  await page.waitForURL(`${address}/sign-in?left=true`);

  await enter('mallory');
  await page.getByText('mallory@example.com may do nothing here').waitFor();
  await page.goto(`${address}/servers`);
  await page.waitForURL(/\/sign-in/);
  const log = command(['audit', 'export', '--format', 'csv']);
  assert.match(log, /mallory@example\.com,127\.0\.0\.1,sign in,mallory@example\.com,refused/);

  // A browser that was not sent brings nothing back.
  const stranger = await openPage(browser);
  await stranger.page.goto(`${address}/sign-in/oidc?code=stolen&state=stolen`);
  await stranger.page.getByText('The sign-in took too long, or was begun in another browser').waitFor();
});

test('whoever breaks the glass says why, and everybody can see it', { timeout: MINUTE }, async () => {
  const { page } = await openPage(browser);
  await signIn(page, 'glass', 'sealed in an envelope');
  await page.getByLabel('Why nobody else can do it').fill('The identity provider is down on the night of the cutover.');
  await look(page, 'people-glass');
  await page.getByRole('button', { name: 'Sign in' }).click();
  // No second factor is asked of it: who has the envelope comes in.
  await page.waitForURL(`${address}/`);
  await page.locator('#emergency').waitFor();
  await look(page, 'people-emergency');
  assert.match(command(['audit', 'export']), /The identity provider is down on the night of the cutover/);
  assert.match(command(['audit', 'verify']), /^\d+:[0-9a-f]{64}$/);
});
