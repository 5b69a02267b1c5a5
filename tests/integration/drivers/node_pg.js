// Ordinary work with node's `pg`: node_pg.js URL MODE.  Prints "done" at the end, or throws.
// In statement mode there are no transactions; everything else is the same.
const assert = require('assert');
const { Client, Pool } = require('pg');

const [url, mode] = process.argv.slice(2);

async function main() {
  const client = new Client({ connectionString: url });
  await client.connect();
  const table = `node_${process.pid}`;
  await client.query(`CREATE TABLE ${table} (id int PRIMARY KEY, word text, at timestamptz, doc jsonb)`);
  try {
    await client.query(`INSERT INTO ${table} VALUES ($1, $2, $3, $4)`, [1, 'ünï', new Date(0), { a: [1] }]);
    const { rows } = await client.query(`SELECT * FROM ${table} WHERE id = $1`, [1]);
    assert.deepStrictEqual(rows[0].doc, { a: [1] });
    assert.strictEqual(rows[0].word, 'ünï');
    assert.strictEqual(rows[0].at.getTime(), 0);

    for (let n = 0; n < 50; n++) { // a named statement, used again and again
      const answer = await client.query({ name: 'by-number', text: 'SELECT $1::int * 2 AS twice', values: [n] });
      assert.strictEqual(answer.rows[0].twice, 2 * n);
    }

    await assert.rejects(client.query('SELECT 1/0'), { code: '22012' });
    await assert.rejects(client.query('SELECT $1::int', ['x']), { code: '22P02' });
    assert.strictEqual((await client.query('SELECT 1 AS one')).rows[0].one, 1);

    if (mode !== 'statement') {
      await client.query('BEGIN');
      await client.query(`INSERT INTO ${table} VALUES (2, 'gone')`);
      await client.query('ROLLBACK');
      await client.query('BEGIN');
      await client.query(`INSERT INTO ${table} VALUES (3, 'kept')`);
      await client.query('COMMIT');
      const kept = await client.query(`SELECT array_agg(id ORDER BY id) AS ids FROM ${table}`);
      assert.deepStrictEqual(kept.rows[0].ids, [1, 3]);
    }

    const pool = new Pool({ connectionString: url, max: 3 });
    const sums = await Promise.all([...Array(60).keys()].map((n) => pool.query('SELECT $1::int + 1 AS next', [n])));
    sums.forEach((answer, n) => assert.strictEqual(answer.rows[0].next, n + 1));
    await pool.end();

    const notices = [];
    client.on('notice', (notice) => notices.push(notice.message));
    await client.query("DO $$ BEGIN RAISE NOTICE 'seen'; END $$");
    assert.deepStrictEqual(notices, ['seen']);
  } finally {
    await client.query(`DROP TABLE ${table}`);
  }
  await client.end();
  console.log('done');
}

main().catch((error) => { console.error(error); process.exit(1); });
