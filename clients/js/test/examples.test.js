// The examples of the client's page: each is JavaScript, and the first one runs.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';

const CLIENT = new URL('../voxhall.js', import.meta.url);
const page = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
const examples = [...page.matchAll(/^```js\n(.*?)^```/gms)].map(([, code]) => code);
const scratch = mkdtempSync(join(tmpdir(), 'voxhall-examples-'));

after(() => rmSync(scratch, { recursive: true, force: true }));

function run(code, ...words) {
  const file = join(scratch, 'example.mjs');
  writeFileSync(file, code.replace("from 'voxhall'", `from '${CLIENT}'`));
  return spawnSync(process.execPath, [...words, file], { encoding: 'utf8', timeout: 30_000 });
}

describe('the examples', () => {
  it('are JavaScript', () => {
    assert.ok(examples.length >= 6);
    for (const code of examples) {
      const { status, stderr } = run(code, '--check');
      assert.equal(status, 0, `${code}\n${stderr}`);
    }
  });

  // Among the live tests.
  if (process.env.VOXHALL_URL) {
    it('begin with one that works', () => {
      const { status, stdout, stderr } = run(examples[0]);
      assert.equal(status, 0, stderr);
      assert.match(stdout, /good morning/);
    });
  }
});
