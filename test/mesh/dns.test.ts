/**
 * DNS with sockets of a program's own: each answer is that of the proxy and seems to come from the server that was asked; and 10,080 queries
 * at once from many sockets, of which not one more is lost or mixed up than without redirection.
 */
import assert from 'node:assert/strict'
import { join, resolve } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { PROXY, startDnsProxy, startServers } from '../lab/dns.ts'
import { addIpv6 } from '../lab/ipv6.ts'
import { Lab, type LabPod, must } from '../lab/net.ts'
import { missing } from '../lab/packages.ts'
import { type Redirection, redirect, redirections } from '../lab/redirection.ts'
import { without } from '../lab/without.ts'

const source = (name: string) => resolve(import.meta.dirname, '../lab/resolvers', name)

const V4 = [1, 2, 3, 4, 5, 6].map((each) => `10.77.0.6${each}`)
const V6 = V4.map((_, index) => `fd77::6${index + 1}`)
const mapped = V4.map((each) => `::ffff:${each}`)
const families: Readonly<Record<string, readonly string[]>> = {
  v4: V4,
  v6: V6,
  mapped,
  /** What musl does with servers of both families: one IPv6 socket for all */
  mixed: [...mapped.slice(0, 3), ...V6.slice(3)],
}

/** 16 sockets for each of six servers, or 16 that ask all six: 10,080 queries with these rounds. */
const SOCKETS = '16'
const ROUNDS = '105'

interface Load {
  readonly sent: number
  readonly answered: number
  readonly proxied: number
  readonly twice: number
  readonly stranger: number
  readonly mixed: number
  readonly errors: number
}

interface Answer {
  readonly server: string
  readonly error?: string
  readonly source?: string
  readonly text?: string
  readonly id?: number
  readonly sent?: number
  readonly local?: string
  readonly peer?: string
  readonly peerPort?: number
}

let lab: Lab
let load: string
/** What a run without redirection lost, by the test's name */
const lostWithout = new Map<string, number>()

before(async () => {
  lab = await Lab.create('dns')
  const servers = await lab.pod('dns', { address: `${V4[0]}/24`, secondary: V4.slice(1).map((each) => `${each}/24`) })
  await addIpv6(servers, V6)
  await startServers(servers, [...V4, ...V6])
  load = join(lab.directory, 'load')
  if (missing('gcc') === false) await must(['gcc', '-O2', '-Wall', '-Wextra', '-Werror', '-o', load, source('load.c')])
})

after(() => lab?.close())

for (const redirection of redirections) describe(`DNS, redirection: ${redirection}`, { timeout: 180_000 }, () => suite(redirection))

function suite(redirection: Redirection): void {
  let pod: LabPod
  let redirected: AsyncDisposable | undefined
  const seesProxy = redirection === 'merbridge' && without.includes('getpeername')
  const own = { v4: `10.77.0.2${redirections.indexOf(redirection)}`, v6: `fd77::2${redirections.indexOf(redirection)}` }

  before(async () => {
    pod = await lab.pod(redirection, { address: `${own.v4}/24` })
    await addIpv6(pod, [own.v6])
    if (redirection !== 'none') await startDnsProxy(pod)
    redirected = await redirect(redirection, [pod])
    await ask(['connected'], V4) // neighbours are known from here on: a burst to an unknown one is dropped by the kernel
    await ask(['connected'], V6)
  })

  after(() => redirected?.[Symbol.asyncDispose]())

  async function ask(ways: readonly string[], servers: readonly string[]): Promise<readonly (readonly Answer[])[]> {
    const cases = JSON.stringify(ways.map((how) => ({ how, servers })))
    return JSON.parse(await must(pod.command(['/usr/bin/python3', '-I', '-S', '-B', source('ask.py'), cases]))) as readonly (readonly Answer[])[]
  }

  /** The answer of the server, or of the proxy in its name. */
  function expectAnswer(answer: Answer, server: string): void {
    const told = JSON.stringify(answer)
    assert.equal(answer.source, server, told)
    assert.equal(answer.id, answer.sent, told)
    const index = V6.includes(server) ? 6 + V6.indexOf(server) : V4.indexOf(server.replace('::ffff:', ''))
    const who = redirection === 'none' ? index + 1 : PROXY
    assert(answer.text?.startsWith(`who=${who} transport=udp id=${answer.sent} `), told)
  }

  /**
   * The proxy sees another source than the pod's address: where a port was bound before, it is too late to bind an address; and a late answer of a server
   * that a socket has left must not pass for one of the next, which is therefore asked from an id.
   */
  const hidden = (how: string, index: number) => redirection === 'merbridge' && (how === 'bound' || (how === 'reconnect' && index > 0))

  /** The pod's own address, in the form that its socket uses. */
  const ownFor = (server: string) => (server.includes('.') ? server.replace(/[0-9.]+$/, own.v4) : own.v6)

  for (const [family, servers] of Object.entries(families)) {
    // Whatever redirects: a socket that was connected to a mapped address, and then to IPv6 ones, goes deaf at the second of those.
    for (const how of family === 'mixed' ? ['connected', 'bound'] : ['connected', 'bound', 'reconnect'])
      test(`${how} sockets, ${family}: the answer, both ends of the socket, and what the proxy sees`, async () => {
        const [answers = []] = await ask([how], servers)
        assert.equal(answers.length, servers.length)
        for (const [index, server] of servers.entries()) {
          const answer = answers[index] ?? { server }
          expectAnswer(answer, server)
          assert.equal(answer.local, ownFor(server))
          if (!seesProxy) assert.deepEqual([answer.peer, answer.peerPort], [server, 53])
          if (!hidden(how, index)) assert(answer.text?.includes(` source=${ownFor(server).replace('::ffff:', '')} `), answer.text)
        }
      })

    for (const how of ['unconnected', 'together', 'pktinfo'])
      test(`one socket that is not connected asks several servers, ${family}: ${how}`, async () => {
        const [answers = []] = await ask([how], servers)
        assert.equal(answers.length, servers.length)
        for (const [index, server] of servers.entries()) expectAnswer(answers[index] ?? { server }, server)
        const first = ownFor(servers[0] ?? '').replace('::ffff:', '')
        assert(answers[0]?.text?.includes(` source=${first} `), 'the first server of a socket is asked from the address of the pod')
      })

    test(`a connected socket that sends to another server hears its own peer only, ${family}`, async () => {
      const [answers = []] = await ask(['strayed'], servers.slice(0, 2))
      expectAnswer(answers[0] ?? { server: '' }, servers[0] ?? '')
      assert.deepEqual(answers[1], { server: servers[1], error: 'silence' })
    })

    for (const how of ['connected', 'unconnected', 'mmsg'])
      test(`10,080 queries at once, ${family}, ${how}`, { skip: missing('gcc') }, async (context) => {
        const result = JSON.parse(await must(pod.command([load, how, SOCKETS, ROUNDS, ...servers]), { timeoutMs: 60_000 })) as Load
        context.diagnostic(JSON.stringify(result))
        const { sent, answered, proxied, twice, stranger, mixed, errors } = result
        assert.deepEqual({ sent, twice, stranger, mixed, errors }, { sent: 10_080, twice: 0, stranger: 0, mixed: 0, errors: 0 })
        assert.equal(proxied, redirection === 'none' ? 0 : answered)
        if (redirection === 'none') lostWithout.set(`${family} ${how}`, sent - answered)
        // The kernel's connection tracking has races of its own: it is no measure.
        if (redirection === 'merbridge') assert(sent - answered <= (lostWithout.get(`${family} ${how}`) ?? 0), `${sent - answered} lost`)
      })
  }
}
