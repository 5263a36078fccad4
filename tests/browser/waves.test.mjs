// A wave on the real hub, from an application to its launch: planned by one, approved by another, moved by the lab.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { axe, DESKTOP, openBrowser, openPage, PHONE, picture } from './chromium.mjs';
import { programPath, start } from './programs.mjs';

process.env.ORGLIFT_SCREENSHOTS ??= join(import.meta.dirname, 'screenshots');

const MINUTE = 60_000;
const PASSWORD = 'a second person agrees';

let browser;
let folder;
let lab;
let address;
let first; // who the lab lets in

before(
  async () => {
    folder = await mkdtemp(join(tmpdir(), 'orglift-waves-'));
    browser = await openBrowser();
    const args = ['--dir', join(folder, 'lab'), '--port', '0', '--accounts', '1', '--servers', '4', '--disk-mib', '16', '--by-hand'];
    const ready = /Console: (http\S+)\s+sign in as (\S+) with (\S+)/;
    lab = await start(programPath('orglift-lab'), args, { ready, withinMs: MINUTE });
    address = lab.match[1].replace(/\/$/, '');
    first = { name: lab.match[2], password: lab.match[3] };
    const add = ['user', 'add', '--dir', join(folder, 'lab', 'hub'), '--name', 'grace', '--role', 'approver', '--password-stdin'];
    const added = spawnSync(programPath('orglift-hub'), add, { input: PASSWORD, encoding: 'utf8' });
    assert.equal(added.status, 0, added.stderr);
  },
  { timeout: 2 * MINUTE },
);

after(async () => {
  await browser?.close();
  await lab?.stop();
  if (folder) await rm(folder, { recursive: true, force: true });
});

async function signIn(page, { name, password }) {
  await page.goto(`${address}/sign-in`);
  await page.getByLabel('Name').fill(name);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.waitForURL(`${address}/`);
}

test('a wave goes from its applications to its end', { timeout: 5 * MINUTE }, async () => {
  const { page, complaints } = await openPage(browser);
  const second = await openPage(browser);
  await signIn(page, first);
  await signIn(second.page, { name: 'grace', password: PASSWORD });

  // An application with whatever servers one account has.
  await page.goto(`${address}/servers`);
  const row = page.locator('#live tbody tr').first();
  await row.waitFor({ timeout: MINUTE });
  const account = (await row.locator('td.wide a').first().getAttribute('href')).split('/').at(-1);
  await page.goto(`${address}/applications`);
  await page.getByText('No applications yet').waitFor();
  await page.getByRole('link', { name: 'New application' }).click();
  await page.getByLabel('Name').fill('shop');
  await page.getByLabel('Account').selectOption(account);
  await page.getByRole('button', { name: 'Create application' }).click();
  await page.getByRole('link', { name: 'Add servers' }).click();
  await page.getByLabel('Tick all servers on this page').check();
  const chosen = await page.locator('tbody .tick input:checked').count();
  assert.ok(chosen > 0);
  await page.getByRole('button', { name: 'Add the ticked servers' }).click();
  await page.getByText('was added').or(page.getByText('were added')).waitFor();
  const application = page.url();
  await picture(page, 'application');

  // A wave of all accounts with it.
  await page.goto(`${address}/waves`);
  await page.getByText('No waves yet').waitFor();
  await page.getByRole('link', { name: 'New wave' }).click();
  await page.getByLabel('Name').fill('first');
  await page.getByRole('button', { name: 'Create wave' }).click();
  const wave = page.url();
  await page.getByRole('button', { name: 'Put it into the wave' }).click();
  await page.locator('#live').getByRole('link', { name: 'shop' }).first().waitFor();

  // Everybody is tested by one click, as soon as the first copies are there.
  const next = page.locator('#next');
  await page.getByText('can be tested').waitFor({ timeout: MINUTE });
  await page.waitForFunction((chosen) => document.querySelectorAll('.board section:nth-child(2) li').length === chosen, chosen, {
    timeout: 2 * MINUTE,
  });
  await next.click();
  await page.getByLabel('Servers of an account at once').fill('1');
  await picture(page, 'wave-launch');
  await page.getByRole('button', { name: 'Launch', exact: true }).click();
  await page.getByRole('heading', { name: 'Launch of the tests' }).waitFor();
  await page.locator('[data-state=ENDED]').waitFor({ timeout: 2 * MINUTE });
  await page.getByText('being tested').waitFor({ timeout: MINUTE });
  await picture(page, 'wave-testing');
  await next.click();
  await page.locator('#confirm').click();
  await page.getByText('Plan when the cutover is').waitFor({ timeout: MINUTE });

  // Planned by one, approved by another.
  const local = (minutes) => new Date(Date.now() + minutes * MINUTE).toISOString().slice(0, 16);
  await next.click();
  await page.getByLabel('The window begins').fill(local(-1));
  await page.getByLabel('The window ends').fill(local(60));
  await page.getByLabel('Change ticket').fill('CHG-1');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('button', { name: 'Ask for approval' }).first().click();
  await page.locator('.page-head [data-state=SUBMITTED]').waitFor();
  assert.equal(await page.getByRole('button', { name: 'Approve' }).count(), 0, 'who asks cannot approve');
  await second.page.goto(wave);
  await second.page.locator('#approve').click();
  await page.locator('.page-head [data-state=APPROVED]').waitFor();
  await picture(page, 'wave-approved');
  await page.goto(`${address}/waves`);
  await page.locator('svg.calendar rect.approved').waitFor();
  await picture(page, 'waves');
  await page.goto(address);
  await page.locator('#coming-card').getByText('0 of').waitFor();
  await picture(page, 'overview-coming');
  await page.emulateMedia({ media: 'print' });
  assert.ok(await page.locator('.side').isHidden(), 'paper has no navigation');
  await page.emulateMedia({ media: 'screen' });
  await page.goto(wave);

  // Cut over, looked at, finalized.
  await next.click();
  await page.locator('#confirm').click();
  await page.getByText('for its cutover').or(page.getByText('for their cutover')).first().waitFor({ timeout: 2 * MINUTE });
  await page.getByText('then finalize').waitFor({ timeout: 2 * MINUTE });
  await next.click();
  await page.locator('#confirm').click();
  await page.locator('.page-head [data-state=COMPLETED]').waitFor({ timeout: 2 * MINUTE });
  await picture(page, 'wave-completed');
  await page.getByRole('link', { name: 'See the report' }).click();
  assert.equal(await page.locator('tbody tr').count(), chosen);
  const csv = await (await page.request.get(`${wave}/report.csv`)).text();
  assert.equal(csv.trim().split('\r\n').length, chosen + 1);

  const barriers = [];
  for (const [name, path] of Object.entries({
    applications: `${address}/applications`,
    application,
    'application-servers': `${application}/servers`,
    waves: `${address}/waves`,
    wave,
    'wave-plan': `${wave}/plan`,
    'wave-report': `${wave}/report`,
    bulk: `${address}/bulk?action=start-test&wave=${wave.split('/').at(-1)}`,
  })) {
    for (const viewport of [DESKTOP, PHONE]) {
      await page.setViewportSize(viewport);
      await page.goto(path);
      const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(wider, 0, `${name} is wider than ${viewport.width}`);
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

test('a tick survives the page refreshing itself, and a preview says who is left out', { timeout: 2 * MINUTE }, async () => {
  const { page, complaints } = await openPage(browser);
  await signIn(page, first);
  await page.goto(`${address}/servers`);
  const box = page.locator('#live tbody .tick input').first();
  await box.check();
  await page.getByLabel('Action for the ticked servers').selectOption('start-replication');
  const shown = await page.evaluate(() => {
    window.refreshed = 0;
    document.addEventListener('htmx:afterSettle', () => window.refreshed++);
    return document.title;
  });
  assert.ok(shown.includes('Source servers'));
  await page.waitForFunction(() => window.refreshed > 0, null, { timeout: MINUTE });
  assert.ok(await box.isChecked());
  assert.equal(await page.getByLabel('Action for the ticked servers').inputValue(), 'start-replication');
  await page.getByRole('button', { name: 'See what it would do' }).click();
  await page.getByText('None of the chosen servers can take part now').waitFor();
  assert.equal(await page.locator('#confirm').count(), 0);
  assert.deepEqual(complaints, []);
});

test('a spreadsheet is looked at, corrected and imported', { timeout: 2 * MINUTE }, async () => {
  const { page, complaints } = await openPage(browser);
  await signIn(page, first);
  await page.goto(`${address}/inventory`);
  const exported = await (await page.request.get(`${address}/inventory/export.csv`)).text();
  const account = /\b\d{12}\b/.exec(exported)[0];
  const file = (size) => ({
    name: 'wave-2.csv',
    mimeType: 'text/csv',
    buffer: Buffer.from(
      `mgn:account-id,mgn:wave:name,mgn:app:name,mgn:server:user-provided-id,mgn:launch:instance-type\r\n` +
        `${account},second,mail,mx-1,${size}\r\n${account},second,mail,mx-2,m5.large\r\n${account},second,files,nfs-1,m5.large\r\n`,
    ),
  });
  await page.getByLabel('CSV file').setInputFiles(file('large'));
  await page.getByRole('button', { name: 'See what it would change' }).click();
  await page.getByText('2 rows are left out').waitFor();
  assert.match(await page.locator('#faults tbody').innerText(), /2\s+mgn:launch:instance-type\s+large\s+it is an instance type such as m5.large/);
  assert.deepEqual(await axe(page), []);
  await picture(page, 'import-faults');
  await page.getByRole('link', { name: 'Choose another file' }).click();
  await page.getByLabel('CSV file').setInputFiles(file('m5.xlarge'));
  await page.getByRole('button', { name: 'See what it would change' }).click();
  await page.locator('#confirm').click();
  await page.getByText('3 rows imported').waitFor();
  assert.equal(await page.locator('#confirm').count(), 0, 'once is enough');
  await page.goto(`${address}/servers?state=PENDING_INSTALLATION`);
  assert.equal(await page.locator('#live tbody tr').count(), 3);
  // A server without an agent has a page, too.
  await page.getByRole('link', { name: 'mx-1' }).click();
  await page.getByRole('heading', { name: 'mx-1' }).waitFor();
  assert.deepEqual(await axe(page), []);
  await picture(page, 'server-pending');
  await page.goto(`${address}/inventory`);
  assert.deepEqual(await axe(page), []);
  await picture(page, 'inventory');
  assert.deepEqual(complaints, []);
});

test('a template is kept for all accounts, and a server takes it over', { timeout: 2 * MINUTE }, async () => {
  const { page, complaints } = await openPage(browser);
  await signIn(page, first);
  await page.goto(`${address}/settings`);
  await page.getByLabel('Template for').selectOption('everything');
  await page.getByRole('button', { name: 'Launch template' }).click();
  await page.getByLabel('Instance type').fill('large');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('Nothing was saved.').waitFor();
  await page.getByLabel('Instance type').fill('r5.xlarge');
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    assert.deepEqual(await axe(page), []);
    await picture(page, `template-${colorScheme}`);
  }
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('The template of all accounts is saved.').waitFor();
  await page.getByRole('link', { name: 'r5.xlarge, tests in' }).waitFor();
  assert.deepEqual(await axe(page), []);
  await picture(page, 'templates');
  await page.goto(`${address}/servers?state=READY_FOR_TEST`);
  const server = await page.locator('#live tbody th a').first().getAttribute('href');
  await page.goto(`${address}${server}/launch-configuration`);
  await page.getByText('The template of all accounts says: r5.xlarge').waitFor();
  await picture(page, 'template-differs');
  await page.goto(`${address}/bulk?action=apply-templates&server=${server.split('/').at(-1)}`);
  await page.getByText('→ r5.xlarge').waitFor();
  await page.getByRole('button', { name: 'Apply the templates' }).click();
  await page.getByText('Apply the templates: ordered for 1 server.').waitFor();
  await page.goto(address + server);
  await page.locator('#launch-card').getByText('all accounts: nothing differs').waitFor();
  await page.goto(`${address}/settings`);
  await page.getByRole('button', { name: 'Remove the template of all accounts' }).click();
  await page.getByText('No templates yet').waitFor();
  // The refusal above was asked for.
  assert.deepEqual(complaints.filter((complaint) => !complaint.includes('422')), []);
});
