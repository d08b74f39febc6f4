// SPDX-License-Identifier: Apache-2.0
// The Node.js workload of the end-to-end tests: the recorder's protocol, with a Buffer as memory.
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const net = require('node:net');
const {setTimeout: sleep} = require('node:timers/promises');

const {NAME, RECORDER, INTERVAL_MS, MEMORY_MIB} = process.env;
const HOST = RECORDER.slice(0, RECORDER.lastIndexOf(':'));
const PORT = Number(RECORDER.slice(RECORDER.lastIndexOf(':') + 1));
const CHUNK = 64 << 10;
const CHUNKS = (Number(MEMORY_MIB) << 20) / CHUNK;
const VERIFY = Math.min(16, CHUNKS);
const TIMEOUT = 1000;
const PAUSE = 20;

const sum = (chunk) => crypto.createHash('md5').update(chunk).digest('hex');

// Memory with a checksum for each chunk.
class Ballast {
  constructor() {
    this.data = Buffer.alloc(CHUNKS * CHUNK, 'x');
    this.sums = [];
    for (let i = 0; i < CHUNKS; i++) {
      crypto.randomFillSync(this.data, i * CHUNK, CHUNK / 2);
      this.sums.push(sum(this.chunk(i)));
    }
    this.touched = 0;
    this.checked = 0;
  }

  chunk(i) {
    return this.data.subarray(i * CHUNK, (i + 1) * CHUNK);
  }

  touch(step) {
    const chunk = this.chunk(this.touched);
    chunk.writeBigUInt64LE(BigInt(step));
    this.sums[this.touched] = sum(chunk);
    this.touched = (this.touched + 1) % CHUNKS;
  }

  // Checks the next chunks; returns a fault or undefined.
  verify() {
    for (let n = 0; n < VERIFY; n++) {
      if (sum(this.chunk(this.checked)) !== this.sums[this.checked]) {
        return `chunk ${this.checked} of the ballast has changed`;
      }
      this.checked = (this.checked + 1) % CHUNKS;
    }
    return undefined;
  }
}

// Tells the recorder, over one connection that it keeps open.
class Reporter {
  async report(message) {
    for (;;) {
      try {
        return await this.attempt(message);
      } catch {
        this.socket?.destroy();
        this.socket = undefined;
        await sleep(PAUSE);
      }
    }
  }

  async attempt(message) {
    if (!this.socket) {
      this.socket = await connect();
      this.pod = fs.readFileSync('/etc/hostname', 'ascii').trim();
    }
    const answer = await ask(this.socket, JSON.stringify({...message, pod: this.pod}) + '\n');
    if (answer !== `ok ${message.nonce}\n`) {
      throw new Error(`recorder answered ${answer}`);
    }
  }
}

function connect() {
  return new Promise((resolve, reject) => {
    const socket = net.connect({host: HOST, port: PORT, family: 4});
    socket.setEncoding('utf8');
    socket.setTimeout(TIMEOUT, () => socket.destroy(new Error('timed out')));
    // Between two messages nobody else listens for errors; the next message meets the destroyed socket.
    socket.on('error', reject);
    socket.once('connect', () => resolve(socket));
    socket.once('close', () => reject(new Error('closed')));
  });
}

function ask(socket, line) {
  return new Promise((resolve, reject) => {
    if (socket.destroyed) {
      reject(new Error('closed'));
      return;
    }
    let answer = '';
    const closed = () => reject(new Error('closed'));
    const received = (text) => {
      answer += text;
      if (answer.endsWith('\n')) {
        socket.off('data', received);
        socket.off('close', closed);
        resolve(answer);
      }
    };
    socket.on('data', received);
    socket.once('close', closed);
    socket.write(line);
  });
}

// Reads the kernel's device: a generator in user space would go on alike in two processes of one checkpoint.
function drawNonce() {
  const file = fs.openSync('/dev/urandom', 'r');
  try {
    const nonce = Buffer.alloc(12);
    fs.readSync(file, nonce);
    return nonce.toString('hex');
  } finally {
    fs.closeSync(file);
  }
}

async function main() {
  process.on('SIGTERM', () => process.exit(143));
  const ballast = new Ballast();
  const reporter = new Reporter();
  let verified = 0;
  for (let step = 1; ; step++) {
    const begin = performance.now();
    const message = {workload: NAME, step, nonce: drawNonce(), done: step - 1, bytes: ballast.data.length};
    ballast.touch(step);
    const fault = ballast.verify();
    if (fault) {
      await reporter.report({...message, fault});
      process.exit(1);
    }
    verified += VERIFY * CHUNK;
    await reporter.report({...message, verified});
    await sleep(Math.max(0, begin + Number(INTERVAL_MS) - performance.now()));
  }
}

main();
