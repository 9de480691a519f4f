/** PostgreSQL: COPY of a large table in both directions, and pgbench, whose sums must agree. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { must } from '../lab/process.ts'
import { call } from './call.ts'
import { absent, packaged, place } from './packages.ts'
import { ports } from './ports.ts'
import { expectFile, type Program } from './program.ts'
import { long, type Site, type Way } from './site.ts'

const ROWS = long ? 1_000_000 : 150_000
const APP = { uid: 1000, gid: 1000 }

const program = (site: Site, name: string) => [...packaged(site.root), join(place(site.root, 'postgresql'), name)]

const to = (way: Way) => ['-h', way.server, '-p', String(ports.postgresql), '-U', 'postgres']

const table = Array.from({ length: ROWS }, (_, row) => `${row}\t${((row * 2654435761) % 4294967296).toString(36).repeat((row % 15) + 1)}\n`).join('')
const checksum = createHash('sha256').update(table).digest('hex')

async function start(site: Site): Promise<void> {
  const data = join(site.directory('postgresql'), 'data')
  writeFileSync(join(site.root, 'table'), table)
  await must(
    site.server.command([...program(site, 'initdb'), '-D', data, '-U', 'postgres', '-A', 'trust', '--no-sync', '--no-locale', '-E', 'UTF8'], APP),
  )
  writeFileSync(join(data, 'pg_hba.conf'), 'host all all 0.0.0.0/0 trust\n')
  const settings = [
    'listen_addresses=*',
    `port=${ports.postgresql}`,
    'unix_socket_directories=',
    'fsync=off',
    'full_page_writes=off',
    'max_wal_size=4GB',
  ]
  await site.serve(
    site.server,
    'PostgreSQL',
    [...program(site, 'postgres'), '-D', data, ...settings.flatMap((each) => ['-c', each])],
    ports.postgresql,
  )
}

export const postgresql: Program = {
  name: 'PostgreSQL',
  missing: absent('postgresql'),
  start,
  exercises: [
    {
      name: 'COPY in both directions',
      run: async (site, way, what) => {
        const psql = [...program(site, 'psql'), ...to(way), '-X', '-q', '-v', 'ON_ERROR_STOP=1']
        const fill = ['DROP TABLE IF EXISTS t', 'CREATE UNLOGGED TABLE t (a int, b text)', `\\copy t FROM '${join(site.root, 'table')}'`]
        await call(site, { what, argv: [...psql, ...fill.flatMap((each) => ['-c', each])] })
        const answer = await call(site, { what, argv: [...psql, '-c', '\\copy (SELECT * FROM t ORDER BY a) TO STDOUT'] })
        expectFile(site, what, { size: table.length, sha256: checksum }, answer)
      },
    },
    {
      name: 'pgbench',
      run: async (site, way, what) => {
        const bench = [...program(site, 'pgbench'), ...to(way)]
        const transactions = 100
        await call(site, { what, argv: [...bench, '-i', '-q', '-s', '1', 'postgres'] })
        const { text } = await call(site, {
          what,
          argv: [...bench, '-n', '-M', 'prepared', '-c', '4', '-j', '2', '-t', String(transactions), 'postgres'],
        })
        assert.match(text, new RegExp(`actually processed: ${4 * transactions}/${4 * transactions}`), text)
        const sums = 'SELECT count(*), sum(delta) = (SELECT sum(abalance) FROM pgbench_accounts) FROM pgbench_history'
        const { text: told } = await call(site, { what, argv: [...program(site, 'psql'), ...to(way), '-X', '-A', '-t', '-c', sums] })
        assert.equal(told.trim(), `${4 * transactions}|t`)
      },
    },
  ],
}
