/** The program of the exchanges over plain TCP: everything passes, and what it writes down is the same each time. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { comparable, exchanges, failed, type Half, halves, listExchanges, runBetween, runBoth } from '../lab/exchanges.ts'
import { inFull } from '../lab/long.ts'
import { Lab, type LabPod, run } from '../lab/net.ts'

/** The words of the issue that each have an exchange, as name or title. */
const WORDS =
  'full-duplex ping-pong pipelined small-writes bulk blocking non-blocking poll level-triggered edge-triggered EPOLLOUT select io_uring MSG_PEEK SO_PEEK_OFF ' +
  'MSG_WAITALL MSG_DONTWAIT MSG_TRUNC MSG_OOB MSG_MORE SIOCATMARK SO_RCVLOWAT SO_RCVTIMEO SO_SNDTIMEO FIONREAD SIOCOUTQ TCP_INFO TCP_CORK TCP_NODELAY ' +
  'SO_TIMESTAMP readv writev recvmsg sendmsg control threads'

describe('the exchanges over plain TCP', { timeout: 400_000 }, () => {
  let lab: Lab
  let one: LabPod
  let two: LabPod
  let first: readonly Half[]

  before(async () => {
    lab = await Lab.create('exchanges')
    one = await lab.pod('one', { ipv6: true })
    two = await lab.pod('two', { ipv6: true })
  })
  after(() => lab?.close())

  test('there is one for each word', async () => {
    const list = await listExchanges()
    const texts = list.map(({ name, title }) => `${name} ${title}`).join('\n')
    assert.deepEqual(
      WORDS.split(' ').filter((word) => !texts.includes(word)),
      [],
    )
    assert.equal(new Set(list.map(({ name }) => name)).size, list.length, 'no name twice')
    assert.deepEqual(
      list.filter(({ name }) => !/^[a-z0-9-]+$/.test(name)),
      [],
    )
  })

  // The socket-semantics suite runs each of them over plain TCP, too.
  test('all of them pass', { skip: inFull }, async () => {
    first = await runBoth(one, 'all', ['--timeout', '30'])
    assert.deepEqual(failed(first), [])
    const names = (await listExchanges()).filter(({ slow }) => !slow).map(({ name }) => name)
    assert.deepEqual([...new Set(first.map(({ name }) => name))], names)
    assert.equal(first.length, 2 * names.length)
  })

  test('a second run writes the same down, named differences included', { skip: inFull }, async () => {
    const second = await runBoth(one, 'all', ['--timeout', '30'])
    assert.deepEqual(failed(second), [])
    const plain = (all: readonly Half[]) => all.map(({ name, side, transcript, skipped }) => ({ name, side, transcript, skipped }))
    assert.deepEqual(plain(second), plain(first))
  })

  for (const [family, listen] of [
    ['IPv4', () => [`${two.address}:7000`]],
    ['IPv6', () => [`[${two.ipv6}]:7000`]],
    ['mapped addresses', () => ['[::]:7000', `[::ffff:${two.address}]:7000`]],
  ] as const) {
    test(`the fast ones pass between two pods over ${family}, and show what they show in one`, { skip: inFull }, async () => {
      const [at = '', connect = at] = listen()
      const control = join(lab.directory, 'control.sock')
      const between = await runBetween({ client: one, server: two, listen: at, connect, control }, 'all', ['--only-fast', '--timeout', '30'])
      assert.deepEqual(failed(between), [])
      const inOne = comparable(first)
      for (const [half, lines] of Object.entries(comparable(between))) assert.deepEqual(lines, inOne[half], half)
      assert.ok(between.length > 20)
      assert.ok(!existsSync(control), 'the control socket is removed')
    })
  }

  test('--scale and --seed decide how much, and what', async () => {
    const [of = [], other = [], scaled = []] = await Promise.all(
      [[], ['--seed', '2'], ['--scale', '2', '--timeout', '60']].map(async (options) => runBoth(one, 'full-duplex-blocking', options)),
    )
    assert.deepEqual(failed([...of, ...other, ...scaled]), [])
    assert.notDeepEqual(comparable(other), comparable(of))
    assert.notDeepEqual(comparable(scaled), comparable(of))
  })

  test('a half whose other half does not come ends in time and says so', async () => {
    const control = join(lab.directory, 'alone.sock')
    const all = halves(
      await one.exec([exchanges, 'run', 'poll', '--role', 'client', '--connect', '127.0.0.1:7001', '--control', control, '--timeout', '1']),
    )
    assert.equal(all.length, 1)
    assert.match(all[0]?.failures.join() ?? '', /no end within 1 s, while waiting for the server's half/)
  })

  test('halves that run something else say so, and go on with the exchange that follows', async () => {
    const control = join(lab.directory, 'other.sock')
    const common = ['--control', control, '--timeout', '5']
    const [served, asked] = await Promise.all([
      two.exec([exchanges, 'run', 'ping-pong,poll', '--role', 'server', '--listen', `${two.address}:7002`, ...common]),
      one.exec([exchanges, 'run', 'pipelined,poll', '--role', 'client', '--connect', `${two.address}:7002`, ...common]),
    ])
    assert.deepEqual([served.code, asked.code], [1, 1])
    const all = [...halves(served), ...halves(asked)]
    assert.match(failed(all)[0] ?? '', /ping-pong server: .*the client's half runs 'pipelined': give both halves the same names/)
    assert.match(failed(all)[1] ?? '', /pipelined client: .*the server's half runs 'ping-pong'/)
    assert.equal(failed(all).length, 2, 'poll passes')
  })

  test('wrong words are refused with the right ones', async () => {
    const cases: readonly (readonly [words: readonly string[], said: RegExp])[] = [
      [[], /exchanges run NAME/],
      [['run', 'no-such', '--role', 'both'], /no exchange is named 'no-such'; `exchanges list` shows them/],
      [['run', 'poll'], /--role is missing/],
      [['run', 'poll', '--role', 'proxy'], /no role is named proxy/],
      [['run', 'poll', '--role', 'client', '--control', '/tmp/x'], /--connect is missing/],
      [['run', 'poll', '--role', 'server', '--listen', '127.0.0.1:1'], /--control is missing/],
      [['run', 'poll', '--role', 'both', '--listen', '10.0.0:80'], /not an address: 10\.0\.0:80/],
      [['run', 'poll', '--role', 'both', '--timeout', 'x'], /not a number: x/],
    ]
    for (const [words, said] of cases) {
      const { code, stderr } = await run([exchanges, ...words])
      assert.equal(code, 2, words.join(' '))
      assert.match(stderr, said)
    }
  })
})
