// Makes the one module `voxhall.js` of those in `src`: each once, after those that it imports, without their imports. They
// share one scope then, so no two may have a top-level name in common. `node build.js --check` only says whether it is up to
// date.

import { readFileSync, writeFileSync } from 'node:fs';

const HERE = new URL('.', import.meta.url);
const OUT = new URL('voxhall.js', HERE);
const IMPORT = /^import (?:\{[^}]*\} from )?'\.\/([\w-]+\.js)';\n/gm;
const REEXPORT = /^export \{([^}]*)\} from '\.\/([\w-]+\.js)';\n/gm;
const TOP_LEVEL = /^(?:export )?(?:async )?(?:class|function|const|let) (\w+)/gm;

function bundle() {
  const done = new Map();
  const owners = new Map();
  const exported = [];
  const take = (name) => {
    if (done.has(name)) return;
    done.set(name, '');
    const source = readFileSync(new URL(`src/${name}`, HERE), 'utf8');
    for (const [, wanted] of source.matchAll(IMPORT)) take(wanted);
    for (const [, names, wanted] of source.matchAll(REEXPORT)) {
      exported.push(...names.split(',').map((one) => one.trim()));
      take(wanted);
    }
    for (const [, top] of source.matchAll(TOP_LEVEL)) {
      if (owners.has(top)) throw new Error(`${name} and ${owners.get(top)} both have ${top}`);
      owners.set(top, name);
    }
    done.delete(name);
    done.set(name, source.replace(IMPORT, '').replace(REEXPORT, '').replace(/^export /gm, '').trim());
  };
  take('index.js');
  const head = '// The Voxhall client: MIT or Apache-2.0. Made of src/ by build.js; change it there.\n';
  done.delete('index.js');
  const bodies = [...done].map(([name, body]) => `// src/${name}\n\n${body}\n`);
  return `${[head, ...bodies].join('\n')}\nexport { ${exported.sort().join(', ')} };\n`;
}

const made = bundle();
if (!process.argv.includes('--check')) {
  writeFileSync(OUT, made);
} else if (readFileSync(OUT, 'utf8') !== made) {
  console.error('voxhall.js is not what src/ makes: run `node build.js`');
  process.exitCode = 1;
}
