// node's `pg` on a shared pool: node_sharing.js URL.  Named statements that meet lost backends and a changed table.
// Says "kill" when it wants its backends to be ended, and goes on at the next line of input; "done" at the end, or throws.
const assert = require('assert');
const readline = require('readline');
const { Client, Pool } = require('pg');

const url = process.argv[2];
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function main() {
  const client = new Client({ connectionString: url, application_name: 'node', statement_timeout: 59000 });
  await client.connect();
  const byId = (id) => client.query({ name: 'by-id', text: 'SELECT word FROM node_habits WHERE id = $1', values: [id] });
  const all = (name) => client.query({ name, text: 'SELECT * FROM node_habits WHERE id = $1', values: [1] });
  await client.query('DROP TABLE IF EXISTS node_habits');
  await client.query("CREATE TABLE node_habits AS SELECT n AS id, 'word ' || n AS word FROM generate_series(1, 50) n");
  for (let n = 1; n <= 20; n++) assert.strictEqual((await byId(n)).rows[0].word, `word ${n}`);
  await all('all');
  const many = await Promise.all([...Array(40).keys()].map((n) => byId(n + 1))); // it pipelines nothing, but queues
  many.forEach((answer, n) => assert.strictEqual(answer.rows[0].word, `word ${n + 1}`));

  console.log('kill');
  await lines.next();
  for (let n = 1; n <= 20; n++) assert.strictEqual((await byId(n)).rows[0].word, `word ${n}`);
  assert.strictEqual((await client.query('SHOW statement_timeout')).rows[0].statement_timeout, '59s');

  await client.query('ALTER TABLE node_habits ADD COLUMN more int DEFAULT 7');
  for (let n = 1; n <= 20; n++) assert.strictEqual((await byId(n)).rows[0].word, `word ${n}`);
  assert.strictEqual((await all('all anew')).rows[0].more, 7);

  await client.query('BEGIN');
  await assert.rejects(client.query({ name: 'fails', text: 'SELECT 1 / $1::int', values: [0] }), { code: '22012' });
  await assert.rejects(byId(1), { code: '25P02' });
  await client.query('ROLLBACK');
  assert.strictEqual((await byId(1)).rows[0].word, 'word 1');

  const heard = new Promise((resolve) => client.on('notification', resolve));
  await client.query('LISTEN node_channel');
  const pool = new Pool({ connectionString: url, max: 2 });
  await pool.query("SELECT pg_notify('node_channel', 'hello')");
  assert.strictEqual((await heard).payload, 'hello');
  await client.query('UNLISTEN node_channel');
  await pool.end();
  await client.query('DROP TABLE node_habits');
  await client.end();
  console.log('done');
  process.exit(0);
}

main().catch((error) => { console.error(error); process.exit(1); });
