// The package as its users get it: packed, installed in a fresh folder, imported.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

const CLIENT = fileURLToPath(new URL('..', import.meta.url));
const FILES = ['LICENSE-APACHE', 'LICENSE-MIT', 'README.md', 'package.json', 'voxhall.d.ts', 'voxhall.js'];
const scratch = mkdtempSync(join(tmpdir(), 'voxhall-package-'));
const run = (program, folder, ...words) => execFileSync(program, words, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });

after(() => rmSync(scratch, { recursive: true, force: true }));

describe('the package', () => {
  it('is packed with what it needs and no more, and imported after it was installed', () => {
    const [packed] = JSON.parse(run('npm', CLIENT, 'pack', '--json', '--pack-destination', scratch));
    assert.deepEqual(packed.files.map(({ path }) => path).sort(), FILES);
    writeFileSync(join(scratch, 'package.json'), '{"private": true, "type": "module"}');
    run('npm', scratch, 'install', '--no-audit', '--no-fund', join(scratch, packed.filename));
    const script = "import * as all from 'voxhall'; console.log(JSON.stringify(Object.keys(all)));";
    const names = JSON.parse(run(process.execPath, scratch, '--input-type=module', '--eval', script));
    const types = readFileSync(join(scratch, 'node_modules/voxhall/voxhall.d.ts'), 'utf8');
    assert.ok(names.includes('Voxhall') && names.includes('Sound'));
    for (const name of names) assert.match(types, new RegExp(`export declare (class|const|function) ${name}\\b`), `${name} has its type`);
  });

  it('has the licences of the whole', () => {
    for (const name of ['LICENSE-MIT', 'LICENSE-APACHE']) {
      assert.equal(readFileSync(join(CLIENT, name), 'utf8'), readFileSync(join(CLIENT, '../..', name), 'utf8'));
    }
  });
});
