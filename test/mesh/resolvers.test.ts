/**
 * Real resolvers with several name servers: they find what there is, as they do without a sidecar, and where the mesh takes DNS it is the proxy
 * that told them. dig, which looks closely, sees each answer come from the server that it asked.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { execResolving, PROXY, type ResolvConf, readAddress, startDnsProxy, startServers } from '../lab/dns.ts'
import { addIpv6 } from '../lab/ipv6.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { missing } from '../lab/packages.ts'
import { type Redirection, redirect, redirections } from '../lab/redirection.ts'
import { buildResolvers, lookUp, type Resolver, resolvers } from '../lab/resolvers.ts'

const V4 = ['10.77.0.61', '10.77.0.62', '10.77.0.63']
const V6 = ['fd77::61', 'fd77::62', 'fd77::63']

const search = ['nx.test', 'svc.test'] // nothing exists below the first
const confs: Readonly<Record<string, ResolvConf>> = {
  v4: { servers: V4, search },
  v6: { servers: V6, search },
  both: { servers: [V4[0] ?? '', V6[1] ?? '', V4[2] ?? ''], search },
}

const resolvConf = readFileSync('/etc/resolv.conf', 'utf8')
let lab: Lab
/** Where the programs are */
let built: string

before(async () => {
  lab = await Lab.create('resolve')
  const servers = await lab.pod('dns', { address: `${V4[0]}/24`, secondary: V4.slice(1).map((each) => `${each}/24`) })
  await addIpv6(servers, V6)
  await startServers(servers, [...V4, ...V6])
  built = join(lab.directory, 'built')
  await mkdir(built)
  await buildResolvers(built)
})

after(async () => {
  await lab?.close()
  assert.equal(readFileSync('/etc/resolv.conf', 'utf8'), resolvConf, "the machine's own resolv.conf")
})

/** Node's c-ares functions know no search domains. */
const searches = ({ name }: Resolver) => !/c-ares|setServers/.test(name)

/** What is asked, and the name under which it is found. Names are each program's own, because servers remember which they have seen. */
function questions(resolver: Resolver, own: string): ReadonlyMap<string, string> {
  const full = ['plain', 'late', 'fail', 'big'].map((kind) => `${kind}-${own}.svc.test`)
  const short = searches(resolver) ? [`short-${own}`] : []
  return new Map([...full.map((name) => [name, name] as const), ...short.map((name) => [name, `${name}.svc.test`] as const)])
}

function expectAnswers(resolver: Resolver, name: string, full: string, addresses: readonly string[], who: readonly number[]): void {
  const told = `${resolver.name}: ${name}: ${addresses.join(' ')}`
  if (name.startsWith('fail-') && resolver.givesUp) {
    assert.deepEqual(addresses, ['!ESERVFAIL'], told)
    return
  }
  const families = addresses.map((address) => (address.includes(':') ? 'v6' : 'v4'))
  assert.deepEqual([...new Set(families)].toSorted(), ['v4', 'v6'], told)
  const transport = name.startsWith('big-') && !resolver.ignoresTruncation ? 'tcp' : 'udp'
  for (const address of addresses) {
    const answered = readAddress(full, address)
    assert.equal(answered?.transport, transport, told)
    assert(who.includes(answered?.who ?? 0), `${told}: expected from ${who.join(' or ')}`)
  }
}

for (const redirection of redirections) describe(`resolvers, redirection: ${redirection}`, { timeout: 180_000 }, () => suite(redirection))

function suite(redirection: Redirection): void {
  let pod: LabPod
  let redirected: AsyncDisposable | undefined
  /** Who answers: the servers, or the proxy alone. */
  const who = redirection === 'none' ? [1, 2, 3, 4, 5, 6] : [PROXY]

  before(async () => {
    pod = await lab.pod(redirection)
    await addIpv6(pod, [`fd77::1${redirections.indexOf(redirection)}`])
    if (redirection !== 'none') await startDnsProxy(pod)
    redirected = await redirect(redirection, [pod])
  })

  after(() => redirected?.[Symbol.asyncDispose]())

  describe('find what there is', { concurrency: true }, () => {
    for (const resolver of resolvers)
      for (const [kind, conf] of Object.entries(confs))
        test(`${resolver.name}, servers ${kind}`, { skip: missing(...resolver.needs) }, async () => {
          const asked = questions(resolver, `${resolver.name.replace(' ', '')}-${kind}-${redirection}`)
          const found = await lookUp(resolver, built, pod, conf, [...asked.keys()])
          for (const [name, full] of asked) expectAnswers(resolver, name, full, found.get(name) ?? [], who)
        })
  })

  describe('dig', { concurrency: true, skip: missing('dig') }, () => {
    const dig = async (conf: ResolvConf, words: readonly string[]) => {
      const { code, stdout, stderr } = await execResolving(pod, conf, ['dig', '+time=1', '+tries=3', ...words])
      assert.equal(code, 0, stdout + stderr)
      assert.doesNotMatch(stdout + stderr, /unexpected source|warning|mismatch/i)
      return stdout
    }
    const all = { v4: V4, v6: V6 } // dig refuses mapped ones

    for (const transport of ['udp', 'tcp'] as const)
      for (const [family, servers] of Object.entries(all))
        test(`names the server that it asked: ${family}, ${transport}`, async () => {
          for (const [index, server] of servers.entries()) {
            const name = `dig${index}-${family}-${transport}-${redirection}.test`
            const said = await dig({ servers: ['203.0.113.1'] }, [`@${server}`, ...(transport === 'tcp' ? ['+tcp'] : []), name, 'TXT'])
            assert.match(said, new RegExp(`SERVER: ${server}#53\\(${server}\\) \\(${transport.toUpperCase()}\\)`))
            const teller = redirection === 'none' ? index + 1 + (family === 'v6' ? 3 : 0) : PROXY
            assert.match(
              said,
              new RegExp(`"who=${teller} transport=${transport} id=\\d+ source=${sourceOf(family, transport)} port=\\d+ name=${name}"`),
            )
          }
        })

    /** dig binds a port, which it may share, before it connects: it is too late to bind the pod's address, and the proxy sees an id. */
    const sourceOf = (family: string, transport: string) => {
      if (redirection === 'merbridge' && transport === 'udp') return family === 'v6' ? 'fd6d:6572:6272:6964::[0-9a-f:]+' : '127\\.\\d+\\.\\d+\\.\\d+'
      return family === 'v6' ? 'fd77::1\\d' : '10\\.77\\.0\\.\\d+'
    }

    test('the servers of resolv.conf, of which one fails and one is late', async () => {
      for (const [kind, conf] of Object.entries(confs))
        for (const trouble of ['fail', 'late', 'big']) {
          const name = `${trouble}-dig-${kind}-${redirection}.test`
          const said = await dig(conf, ['+nofail', '+nocomments', name, 'AAAA']) // +nofail: ask the next
          const [, address = ''] = new RegExp(`^${name}\\.\\s.*\\sAAAA\\s(\\S+)$`, 'm').exec(said) ?? []
          const answered = readAddress(name, address)
          assert(answered !== undefined && who.includes(answered.who), said)
          assert.equal(answered.transport, trouble === 'big' ? 'tcp' : 'udp')
          const [, server = ''] = /SERVER: (\S+)#53/.exec(said) ?? []
          assert(conf.servers.includes(server), said)
        }
    })
  })
}
