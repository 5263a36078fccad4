// The console over the real programs: the lab moves servers, and a browser watches.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { axe, DESKTOP, openBrowser, openPage, PHONE, picture } from './chromium.mjs';
import { programPath, start } from './programs.mjs';
import { addSample } from './sample.mjs';

process.env.ORGLIFT_SCREENSHOTS ??= join(import.meta.dirname, 'screenshots');

const MINUTE = 60_000;

let browser;
let folder;
let lab;
let console_; // address, name and password

before(
  async () => {
    folder = await mkdtemp(join(tmpdir(), 'orglift-console-'));
    // Before the lab: a browser may take longer to start than a server takes to be copied.
    browser = await openBrowser();
    // Disks large enough that the first copy can be watched.
    const args = ['--dir', join(folder, 'lab'), '--port', '0', '--servers', '4', '--disk-mib', '192'];
    const ready = /Console: (http\S+)\s+sign in as (\S+) with (\S+)/;
    lab = await start(programPath('orglift-lab'), args, { ready, withinMs: MINUTE });
    const [, address, name, password] = lab.match;
    console_ = { address: address.replace(/\/$/, ''), name, password };
  },
  { timeout: 2 * MINUTE },
);

after(async () => {
  await browser?.close();
  await lab?.stop();
  if (folder) await rm(folder, { recursive: true, force: true });
});

async function signIn(page) {
  await page.goto(`${console_.address}/sign-in`);
  await page.getByLabel('Name').fill(console_.name);
  await page.getByLabel('Password').fill(console_.password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.waitForURL(`${console_.address}/`);
}

/** Pixels by which the page is wider than its window, without the scroll bar. */
function overflow(page) {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}

test('a server goes from its first copy to its cutover on a page that is never reloaded', { timeout: 6 * MINUTE }, async () => {
  const { page, complaints } = await openPage(browser);
  await signIn(page);
  await page.goto(`${console_.address}/servers`);
  // The list fills itself as agents enrol. This server has a data disk, and its first copy takes the longest.
  const link = page.locator('#live tbody').getByRole('link', { name: 'db-1' }).first();
  await link.waitFor({ timeout: MINUTE });
  const server = await link.getAttribute('href');
  await page.goto(console_.address + server);
  await page.evaluate(() => {
    window.seen = [];
    const look = () => {
      const badges = document.querySelectorAll('.page-head [data-state]');
      const states = [...badges].map((badge) => badge.dataset.state).join(' ');
      if (window.seen.at(-1) !== states) window.seen.push(states);
    };
    look();
    new MutationObserver(look).observe(document.getElementById('live'), {
      subtree: true,
      childList: true,
      attributes: true,
      characterData: true,
    });
  });
  await picture(page, 'server-first-copy');
  await page.waitForSelector('.page-head [data-state="CUTOVER"]', { timeout: 5 * MINUTE });
  const seen = await page.evaluate(() => window.seen);
  assert.match(seen[0], /^NOT_READY (INITIATING|INITIAL_SYNC|CREATING_SNAPSHOT)$/, seen.join(', '));
  assert.match(seen.at(-1), /^CUTOVER/, seen.join(', '));
  assert.ok(seen.length > 3, `the page showed only ${seen.join(', ')}`);
  assert.deepEqual(complaints, []);
});

test('every page fits both widths, and nothing complains', { timeout: 3 * MINUTE }, async () => {
  const { page, complaints } = await openPage(browser);
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => {
      console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`);
    });
  });
  await page.goto(`${console_.address}/sign-in`);
  await picture(page, 'sign-in');
  await signIn(page);
  const href = async (path, selector) => {
    await page.goto(console_.address + path);
    return page.locator(selector).first().getAttribute('href');
  };
  const server = await href('/servers', '#live tbody th a');
  const account = await href('/', '.matrix tbody th[scope=row] a');
  const job = await href('/jobs', '#live tbody th a');
  const barriers = [];
  const pages = {
    overview: '/',
    audit: '/audit',
    people: '/people',
    profile: '/profile',
    settings: '/settings',
    targets: '/settings/targets',
    waveOverview: '/?by=wave',
    applicationOverview: '/?by=application',
    'launch-template': '/settings/templates/launch?scope=everything',
    'replication-template': '/settings/templates/replication?scope=everything',
    search: '/search?q=db',
    servers: '/servers',
    'servers-none': '/servers?q=no+such+server',
    server,
    'launch-configuration': `${server}/launch-configuration`,
    replication: `${server}/replication-configuration`,
    account,
    'add-source-server': `${account}/enrol/agent`,
    jobs: '/jobs',
    job,
  };
  for (const [name, path] of Object.entries(pages)) {
    for (const viewport of [DESKTOP, PHONE]) {
      await page.setViewportSize(viewport);
      await page.goto(console_.address + path);
      assert.equal(await overflow(page), 0, `${name} is wider than ${viewport.width}`);
    }
    await page.setViewportSize(DESKTOP);
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      barriers.push(...(await axe(page)).map((barrier) => `${name}, ${colorScheme}: ${barrier}`));
      await picture(page, `${name}-${colorScheme}`);
    }
  }
  assert.deepEqual(barriers, []);
  assert.deepEqual(complaints, []);
});

test('readiness, changes and a rehearsal can be read at both widths', { timeout: 2 * MINUTE }, async (t) => {
  const sample = addSample(join(folder, 'lab', 'hub', 'hub.db'));
  if (!sample) {
    assert.ok(!process.env.CI, 'sqlite3 is missing');
    t.skip('sqlite3 is missing');
    return;
  }
  const { page, complaints } = await openPage(browser);
  await signIn(page);
  const barriers = [];
  const pages = {
    'servers-blocked': '/servers?readiness=BLOCKED',
    'server-readiness': sample.server,
    'launch-blocked': `${sample.server}/actions/start-test`,
    conversion: sample.conversion,
  };
  for (const [name, path] of Object.entries(pages)) {
    for (const viewport of [DESKTOP, PHONE]) {
      await page.setViewportSize(viewport);
      await page.goto(console_.address + path);
      for (const summary of await page.locator('details.change > summary').all()) await summary.click();
      assert.equal(await overflow(page), 0, `${name} is wider than ${viewport.width}`);
    }
    await page.setViewportSize(DESKTOP);
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      barriers.push(...(await axe(page)).map((barrier) => `${name}, ${colorScheme}: ${barrier}`));
      await picture(page, `${name}-${colorScheme}`);
    }
  }
  assert.deepEqual(barriers, []);
  const width = await page.locator('img.screen').evaluate((image) => image.decode().then(() => image.naturalWidth));
  assert.equal(width, 640, 'the screen is shown');
  assert.equal(await page.locator('#changes-card b').count(), 0, 'words of a guest are no markup');
  await page.evaluate(() => htmx.trigger('#live', 'sse:changed'));
  await page.waitForTimeout(500);
  assert.ok(await page.locator('.diff').first().isVisible(), 'what was unfolded stays unfolded');
  const [saved] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('link', { name: 'changes.txt' }).click(),
  ]);
  assert.equal(saved.suggestedFilename(), 'changes.txt');
  assert.deepEqual(complaints, []);
});

test('anything is found from the keyboard', { timeout: 2 * MINUTE }, async () => {
  const { page, complaints } = await openPage(browser);
  await signIn(page);
  await page.goto(`${console_.address}/servers`);
  await page.locator('#live tbody').getByRole('link', { name: 'db-1' }).first().waitFor({ timeout: MINUTE });
  const palette = page.locator('#palette');
  await page.keyboard.press('Control+k');
  await palette.getByRole('link', { name: 'Waves' }).waitFor();
  await page.getByLabel('Search everything').fill('db-1');
  await palette.getByRole('heading', { name: 'Source servers' }).waitFor();
  await picture(page, 'palette');
  assert.deepEqual(await axe(page), []);
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  await page.waitForURL(/\/servers\/s-/);
  // From page to page, and from row to row.
  await page.keyboard.press('g');
  await page.keyboard.press('s');
  await page.waitForURL(/\/servers$/);
  await page.keyboard.press('j');
  await page.keyboard.press('j');
  await page.keyboard.press('k');
  const first = page.locator('#live tbody tr').first();
  assert.equal(
    await page.evaluate(() => document.activeElement.textContent),
    await first.locator('th a').textContent(),
  );
  await page.keyboard.press('x');
  assert.ok(await first.locator('.tick input').isChecked());
  await page.keyboard.press('?');
  await page.getByRole('heading', { name: 'Keyboard' }).waitFor();
  await picture(page, 'keyboard');
  assert.deepEqual(await axe(page), []);
  await page.keyboard.press('Escape');
  // Columns and filters are kept for the person.
  await page.getByText('Columns', { exact: true }).click();
  await page.getByLabel('Instance type').check();
  await page.getByRole('button', { name: 'Show these' }).click();
  await page.getByRole('columnheader', { name: 'Instance type' }).waitFor();
  await page.goto(`${console_.address}/servers?q=db-1`);
  await page.getByText('Saved filters', { exact: true }).first().click();
  await page.getByLabel('Keep this list as').fill('Databases');
  await picture(page, 'save-filter');
  await page.getByRole('button', { name: 'Save', exact: true }).click();
  await page.getByRole('navigation', { name: 'Saved filters' }).getByRole('link', { name: 'Databases' }).waitFor();
  assert.deepEqual(await axe(page), []);
  await page.setViewportSize(PHONE);
  assert.equal(await overflow(page), 0);
  // Who turned single keys off types them to no effect.
  await page.goto(`${console_.address}/profile`);
  await page.getByLabel('Single keys do something').uncheck();
  await page.getByRole('button', { name: 'Save', exact: true }).click();
  await page.getByText('Saved.').waitFor();
  await page.keyboard.press('?');
  assert.equal(await page.locator('#keyboard').evaluate((dialog) => dialog.open), false);
  assert.deepEqual(complaints, []);
});

test('the console speaks Japanese to who asks for it, and in the profile to anybody', { timeout: 3 * MINUTE }, async () => {
  const { page, complaints } = await openPage(browser, DESKTOP, { locale: 'ja-JP' });
  const barriers = [];
  await page.goto(`${console_.address}/sign-in`);
  await picture(page, 'ja-sign-in');
  await page.getByLabel('名前').fill(console_.name);
  await page.getByLabel('パスワード').fill(console_.password);
  await page.getByRole('button', { name: 'サインイン' }).click();
  await page.getByRole('heading', { name: '概要' }).waitFor();
  const server = await (async () => {
    await page.goto(`${console_.address}/servers`);
    return page.locator('#live tbody th a').first().getAttribute('href');
  })();
  await page.goto(`${console_.address}/jobs`);
  const job = await page.locator('#live tbody th a').first().getAttribute('href');
  const pages = { overview: '/', servers: '/servers', server, jobs: '/jobs', job, audit: '/audit', people: '/people', profile: '/profile', settings: '/settings', targets: '/settings/targets', template: '/settings/templates/replication?scope=everything', search: '/search?q=db', configuration: `${server}/launch-configuration` };
  for (const [name, path] of Object.entries(pages)) {
    for (const viewport of [DESKTOP, PHONE]) {
      await page.setViewportSize(viewport);
      await page.goto(console_.address + path);
      assert.equal(await page.locator('html').getAttribute('lang'), 'ja');
      assert.equal(await overflow(page), 0, `${name} is wider than ${viewport.width}`);
    }
    await page.setViewportSize(DESKTOP);
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      barriers.push(...(await axe(page)).map((barrier) => `${name}, ${colorScheme}: ${barrier}`));
      await picture(page, `ja-${name}-${colorScheme}`);
    }
  }
  assert.deepEqual(barriers, []);
  await page.goto(`${console_.address}/profile`);
  await page.getByLabel('言語', { exact: true }).last().selectOption('en');
  await page.getByRole('button', { name: '保存' }).click();
  await page.getByText('Saved.').waitFor();
  assert.equal(await page.locator('html').getAttribute('lang'), 'en');
  await page.getByLabel('Language', { exact: true }).last().selectOption('');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('保存しました。').waitFor();
  assert.deepEqual(complaints, []);
});

test('a program is told of what happens, and can tell who says so', { timeout: 2 * MINUTE }, async (test) => {
  const heard = [];
  const receiver = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray());
    heard.push({ body, signature: request.headers['x-orglift-signature'] });
    response.writeHead(204).end();
  }).listen(0, '127.0.0.1');
  test.after(() => receiver.close());
  await once(receiver, 'listening');
  const { page, complaints } = await openPage(browser);
  await signIn(page);
  await page.goto(`${console_.address}/settings`);
  await page.getByRole('link', { name: 'Notification targets' }).click();
  await page.getByText('Nobody yet').waitFor();
  await page.getByLabel('Name').fill('Pager');
  await page.getByLabel('Address').fill(`http://127.0.0.1:${receiver.address().port}/hook`);
  await page.getByRole('button', { name: 'Add', exact: true }).click();
  const key = await page.locator('#secret').textContent();
  assert.deepEqual(await axe(page), []);
  await page.getByRole('link', { name: 'Back to the settings' }).click();
  await page.getByRole('button', { name: 'Try Pager' }).click();
  await page.getByText('It arrived.').waitFor();
  const [{ body, signature }] = heard;
  assert.equal(JSON.parse(body)['detail-type'], 'MGN Source Server Lifecycle State Change');
  assert.equal(signature, `sha256=${createHmac('sha256', key).update(body).digest('hex')}`);
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    assert.deepEqual(await axe(page), []);
    await picture(page, `targets-${colorScheme}`);
  }
  receiver.close();
  await page.getByRole('button', { name: 'Try Pager' }).click();
  await page.getByText('was not reached').waitFor();
  await page.getByRole('button', { name: 'Remove Pager' }).click();
  await page.getByText('Nobody yet').waitFor();
  assert.deepEqual(complaints, []);
});

test('an order is confirmed in a dialog that survives the page refreshing itself', { timeout: 2 * MINUTE }, async () => {
  const { page, complaints } = await openPage(browser);
  await signIn(page);
  await page.goto(`${console_.address}/servers?state=CUTOVER`);
  const row = page.locator('#live tbody th a').first();
  const name = await row.textContent();
  await row.click();
  await page.getByText('Live', { exact: true }).waitFor();
  await page.getByRole('link', { name: 'Archive' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('heading', { name: `Archive: ${name}` }).waitFor();
  await page.evaluate(() => htmx.trigger('#live', 'sse:changed'));
  await page.waitForTimeout(500);
  assert.ok(await dialog.isVisible(), 'the dialog is still open');
  await dialog.getByRole('link', { name: 'Keep as it is' }).click();
  assert.ok(await dialog.isHidden(), 'the dialog closes');
  await page.getByRole('link', { name: 'Archive' }).click();
  await dialog.getByRole('button', { name: 'Archive' }).click();
  await page.getByText(`${name} is archived.`).waitFor();
  assert.deepEqual(complaints, []);
});

test('pages and orders work without JavaScript', { timeout: 2 * MINUTE }, async () => {
  const context = await browser.newContext({ javaScriptEnabled: false, viewport: PHONE });
  const page = await context.newPage();
  await signIn(page);
  await page.goto(`${console_.address}/servers?state=CUTOVER`);
  await page.locator('#live tbody th a').first().click();
  const name = await page.getByRole('heading', { level: 1 }).textContent();
  await page.getByRole('link', { name: 'Archive' }).click();
  await page.getByRole('button', { name: 'Archive' }).click();
  await page.getByText(`${name} is archived.`).waitFor();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByText('You are signed out.').waitFor();
  await context.close();
});
