/** redis with pipelining: many small writes one after the other, in one direction and then in the other, and one large value. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { call } from './call.ts'
import { absent, goAbsent, goProgram, packaged, place } from './packages.ts'
import { ports } from './ports.ts'
import { type Exercise, expectFile, type Program } from './program.ts'
import { long, type Site, type Way } from './site.ts'

const KEYS = 50_000

const program = (site: Site, name: string) => [...packaged(site.root), join(dirname(place(site.root, 'redis')), name)]

const end = (host: string, port: number) => ['-h', host, '-p', String(port)]

/** Values that differ, so that an answer at the wrong place is seen. */
const value = (key: number) => `value-${key}-${'x'.repeat(key % 200)}`

/** As redis-cli --pipe wants it: the protocol itself. */
const sets = Array.from({ length: KEYS }, (_, key) => {
  const words = ['SET', `key-${key}`, value(key)]
  return `*3\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join('')}`
}).join('')

const piped = (name: string, host: (way: Way) => readonly string[]): Exercise => ({
  name,
  run: async (site, way, what) => {
    const cli = [...program(site, 'redis-cli'), ...host(way)]
    await call(site, { what, argv: [...cli, 'FLUSHALL'] })
    const { text } = await call(site, { what, argv: [...cli, '--pipe', '--pipe-timeout', '30'], input: sets })
    assert.match(text, new RegExp(`errors: 0, replies: ${KEYS}`), text)
    const keys = Array.from({ length: 5_000 }, (_, index) => (index * 7919) % KEYS)
    const answer = await call(site, { what, argv: [...cli, 'MGET', ...keys.map((key) => `key-${key}`)] })
    const expected = `${keys.map(value).join('\n')}\n`
    expectFile(site, what, { size: expected.length, sha256: createHash('sha256').update(expected).digest('hex') }, answer)
  },
})

export const redis: Program = {
  name: 'redis',
  missing: absent('redis'),
  start: async (site) => {
    const flags = ['--port', String(ports.redis), '--bind', '0.0.0.0', '--protected-mode', 'no', '--save', '', '--dir', site.directory('redis')]
    const servers = [site.serve(site.server, 'redis', [...program(site, 'redis-server'), ...flags], ports.redis)]
    if (goAbsent() === false) {
      const target = `${site.ways[1].server}:${ports.redis}`
      servers.push(site.serve(site.middle, 'redis', [goProgram, 'proxy', `0.0.0.0:${ports.redisGoProxy}`, target], ports.redisGoProxy, 'root'))
    }
    await Promise.all(servers)
  },
  exercises: [
    piped('--pipe', ({ server }) => end(server, ports.redis)),
    ...(goAbsent() === false ? [piped('--pipe through a proxy with io.Copy', ({ middle }) => end(middle, ports.redisGoProxy))] : []),
    {
      name: 'redis-benchmark -P 32',
      run: async (site, way, what) => {
        const to = end(way.server, ports.redis)
        const cli = [...program(site, 'redis-cli'), ...to]
        await call(site, { what, argv: [...cli, 'FLUSHALL'] })
        const requests = long ? 64_000 : 8_000
        const flags = ['-P', '32', '-c', '10', '-n', String(requests), '-d', '100', '-t', 'set,get,lpush,lrange_100', '-q']
        const { text } = await call(site, { what, argv: [...program(site, 'redis-benchmark'), ...to, ...flags] })
        for (const test of ['SET', 'GET', 'LPUSH', 'LRANGE_100'])
          assert.match(text, new RegExp(`^${test}\\b.*: \\d[\\d.]* requests per second`, 'm'), text)
        const { text: length } = await call(site, { what, argv: [...cli, 'LLEN', 'mylist'] })
        assert(Number(length) >= requests, `${length.trim()} of ${requests} values are in the list`)
      },
    },
    {
      name: 'a large value',
      run: async (site, way, what) => {
        const cli = [...program(site, 'redis-cli'), ...end(way.server, ports.redis)]
        await call(site, { what, argv: ['sh', '-c', 'file=$1; shift; exec "$@" <"$file"', 'sh', site.medium.path, ...cli, '-x', 'SET', 'large'] })
        const sha256 = createHash('sha256').update(readFileSync(site.medium.path)).update('\n').digest('hex')
        expectFile(site, what, { size: site.medium.size + 1, sha256 }, await call(site, { what, argv: [...cli, 'GET', 'large'] }))
      },
    },
  ],
}
