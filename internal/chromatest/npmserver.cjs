'use strict';
// npmserver.cjs ARGS...   runs "chroma ARGS..." from the addon chroma.node beside
// this file; without ARGS it only checks that the addon loads.
const path = require('node:path');

// Node and the server each install handlers for these signals, and each calls
// the one it found: together they would spin for ever (Chroma issues 5526 and
// 5594). Adding a listener and removing it again leaves the system's default,
// so that the signal ends the process.
for (const signal of ['SIGINT', 'SIGTERM']) {
  const nothing = () => {};
  process.on(signal, nothing);
  process.off(signal, nothing);
}

let binding;
try {
  binding = require(path.join(__dirname, 'chroma.node'));
} catch (e) {
  console.error(e.message); // such as: version `GLIBC_2.39' not found
  process.exit(1);
}
if (typeof binding.cli !== 'function') {
  throw new Error('the addon has no function cli');
}
const args = process.argv.slice(2);
if (args.length > 0) {
  binding.cli(['chroma', ...args]);
  process.exit(0);
}
