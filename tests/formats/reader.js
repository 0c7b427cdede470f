// A reader of a mirror in another language: plain usearch and Node's own library, as docs/format.md tells.
//
// node reader.js FOLDER CHANNEL TIER COUNT < queries.json
//
// Queries are arrays of the first components of a unit vector. What it prints for each: the COUNT nearest live rows,
// as [path of the vector shard, row], nearest first.
'use strict';
const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const usearch = require('usearch');

const sha256 = (data) => crypto.createHash('sha256').update(data).digest('hex');

/** A sealed object: its `sha256` is that of its bytes without that member and without the last newline. */
function unseal(data) {
  const text = data.toString('utf8').trimEnd();
  const { sha256: stated } = JSON.parse(text);
  const member = `"sha256":"${stated}"`;
  const content = text.includes(`${member},`) ? text.replace(`${member},`, '') : text.replace(`,${member}`, '');
  if (sha256(Buffer.from(content, 'utf8')) !== stated) throw new Error('a broken seal');
  const value = JSON.parse(text);
  if (value.format !== 1) throw new Error(`format ${value.format}`);
  return value;
}

/** The version with the generation of a checkpoint at its top; null is the one that is there. */
function served(manifest, checkpoint) {
  const found = [manifest, manifest.other].find(
    (one) => one && (checkpoint === null || one.collection.checkpoint === checkpoint),
  );
  if (!found) throw new Error(`no generation of checkpoint ${checkpoint}`);
  return { ...found, version: manifest.version };
}

class Mirror {
  constructor(folder, channel) {
    this.folder = folder;
    const { version, checkpoint } = this.sealed(`channels/${channel}.json`);
    this.manifest = served(this.sealed(`manifests/${String(version).padStart(12, '0')}.json`), checkpoint);
  }

  sealed(name) {
    return unseal(fs.readFileSync(path.join(this.folder, name)));
  }

  /** The bytes of an object, checked against what the manifest states of it. */
  read(stored) {
    if (stored.path.startsWith('/') || stored.path.split('/').includes('..')) throw new Error(`path ${stored.path}`);
    const data = fs.readFileSync(path.join(this.folder, stored.path));
    if (data.length !== stored.bytes || sha256(data) !== stored.sha256) throw new Error(`${stored.path} is damaged`);
    return data;
  }
}

/** The row numbers in a 32-bit roaring bitmap: https://github.com/RoaringBitmap/RoaringFormatSpec */
function deadRows(data) {
  const cookie = data.readUInt32LE(0);
  const runs = (cookie & 0xffff) === 12347;
  if (!runs && cookie !== 12346) throw new Error(`cookie ${cookie}`);
  const count = runs ? (cookie >>> 16) + 1 : data.readUInt32LE(4);
  let at = runs ? 4 : 8;
  const isRun = (i) => runs && (data[4 + (i >> 3)] >> (i & 7)) & 1;
  if (runs) at += (count + 7) >> 3;
  const containers = [];
  for (let i = 0; i < count; i += 1, at += 4) {
    containers.push({ key: data.readUInt16LE(at), cardinality: data.readUInt16LE(at + 2) + 1, run: isRun(i) });
  }
  if (!runs || count >= 4) at += 4 * count;
  const rows = new Set();
  for (const { key, cardinality, run } of containers) {
    const add = (low) => rows.add(key * 65536 + low);
    if (run) {
      const length = data.readUInt16LE(at);
      for (let r = 0; r < length; r += 1) {
        const start = data.readUInt16LE(at + 2 + 4 * r);
        for (let n = 0; n <= data.readUInt16LE(at + 4 + 4 * r); n += 1) add(start + n);
      }
      at += 2 + 4 * length;
    } else if (cardinality <= 4096) {
      for (let n = 0; n < cardinality; n += 1) add(data.readUInt16LE(at + 2 * n));
      at += 2 * cardinality;
    } else {
      for (let bit = 0; bit < 65536; bit += 1) if ((data[at + (bit >> 3)] >> (bit & 7)) & 1) add(bit);
      at += 8192;
    }
  }
  return rows;
}

class IndexShard {
  constructor(mirror, shard, dead) {
    const { dimensions, metric, connectivity, expansion_search: expansion } = shard.parameters;
    mirror.read(shard);
    this.shard = shard;
    this.dead = dead;
    this.index = new usearch.Index({
      dimensions,
      metric,
      quantization: metric === 'hamming' ? 'b1' : 'i8',
      connectivity,
      expansion_search: expansion,
    });
    this.index.view(path.join(mirror.folder, shard.path));
    if (this.index.size() !== shard.codes) throw new Error(`${shard.path}: ${this.index.size()} codes`);
    this.further = new Map();
    if (shard.aliases) {
      const pairs = mirror.read(shard.aliases);
      for (let at = 0; at < pairs.length; at += 16) {
        const key = pairs.readBigUInt64LE(at);
        if (!this.further.has(key)) this.further.set(key, []);
        this.further.get(key).push(pairs.readBigUInt64LE(at + 8));
      }
    }
  }

  /** Live rows with their distances. usearch converts what it is given to the scalars of the index itself. */
  search(query, count) {
    // The graph of a small shard is made for scans: whoever walks it asks for more.
    const begin = this.shard.codes <= 2048 ? 20 * count : count;
    for (let asked = Math.min(begin, this.shard.codes); ; asked = Math.min(2 * asked, this.shard.codes)) {
      const { keys, distances } = this.index.search(Float32Array.from(query), asked, 1);
      const found = [];
      keys.forEach((key, at) => {
        for (const one of [key, ...(this.further.get(key) ?? [])]) {
          const shard = this.shard.vector_shards[Number(one >> 32n)];
          const row = Number(one & 0xffffffffn);
          if (!this.dead.get(shard)?.has(row)) found.push({ shard, row, distance: distances[at] });
        }
      });
      if (found.length >= count || asked >= this.shard.codes) return found;
    }
  }
}

const [folder, channel, tier, count] = process.argv.slice(2);
const mirror = new Mirror(folder, channel);
const dead = new Map();
for (const shard of mirror.manifest.vector_shards) {
  if (shard.deletes) dead.set(shard.path, deadRows(mirror.read(shard.deletes)));
}
const shards = mirror.manifest.index_shards
  .filter((shard) => shard.tier === tier)
  .map((shard) => new IndexShard(mirror, shard, dead));
const answers = JSON.parse(fs.readFileSync(0, 'utf8')).map((query) =>
  shards
    .flatMap((shard) => shard.search(query, Number(count)))
    .sort((a, b) => a.distance - b.distance)
    .slice(0, Number(count))
    .map(({ shard, row }) => [shard, row]),
);
console.log(JSON.stringify({ version: mirror.manifest.version, dead: [...dead].map(([, rows]) => rows.size), answers }));
