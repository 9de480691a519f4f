/**
 * A Java client and a Java server with the sockets that Java makes by itself, which are IPv6 ones whose addresses are mapped: they meet through two
 * Envoys and the DNS proxy, and see what they see without a mesh.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { execResolving, PROXY, readAddress, startDnsProxy, startServers } from '../lab/dns.ts'
import { startEnvoy } from '../lab/envoy.ts'
import { addIpv6 } from '../lab/ipv6.ts'
import { compileJava, java, javaMissing, startJavaServer } from '../lab/java.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { type Redirection, redirect, redirections } from '../lab/redirection.ts'

const DNS = { v4: '10.77.0.61', v6: 'fd77::61' }
const PORT = 8080

let lab: Lab
let classes: string

before(async () => {
  if (javaMissing !== false) return
  lab = await Lab.create('java')
  const servers = await lab.pod('dns', { address: `${DNS.v4}/24` })
  await addIpv6(servers, [DNS.v6])
  await startServers(servers, [DNS.v4, DNS.v6])
  classes = await compileJava(lab.directory)
})

after(() => lab?.close())

/** 'WHAT' -> KEY -> value, of what the client prints. */
type Told = ReadonlyMap<string, Readonly<Record<string, string>>>

const read = (text: string): Told =>
  new Map(
    text
      .trim()
      .split('\n')
      .map((line) => {
        const [what = '', ...words] = line.split(' ')
        const pairs = words.filter((word) => word.includes('=')).map((word): [string, string] => [word.replace(/=.*/, ''), word.replace(/^.*?=/, '')])
        return [what, Object.fromEntries(pairs)]
      }),
  )

for (const redirection of redirections)
  describe(`Java, redirection: ${redirection}`, { timeout: 180_000, skip: javaMissing }, () => suite(redirection))

function suite(redirection: Redirection): void {
  let client: LabPod
  let server: LabPod
  let redirected: AsyncDisposable | undefined
  const meshed = redirection !== 'none'
  const number = 20 + 2 * redirections.indexOf(redirection)
  const own = { v4: `10.77.0.${number}`, v6: `fd77::${number}` }
  const other = { v4: `10.77.0.${number + 1}`, v6: `fd77::${number + 1}` }

  before(async () => {
    client = await lab.pod(`client-${redirection}`, { address: `${own.v4}/24` })
    server = await lab.pod(`server-${redirection}`, { address: `${other.v4}/24` })
    await addIpv6(client, [own.v6])
    await addIpv6(server, [other.v6])
    await startJavaServer(server, classes, PORT)
    if (meshed) {
      await startDnsProxy(client)
      await Promise.all([startEnvoy(client, 'client', 'each'), startEnvoy(server, 'server', 'each')])
    }
    redirected = await redirect(redirection, [client, server])
  })

  after(() => redirected?.[Symbol.asyncDispose]())

  for (const family of ['v4', 'v6'] as const) {
    const name = `java-${family}-${redirection}.test`
    const [from, to, dns] = [own[family], other[family], DNS[family]]
    /** As Java writes it: IPv6 without shortening, mapped as IPv4 */
    const long = (address: string) => (family === 'v4' ? address : address.replace('::', ':0:0:0:0:0:0:'))
    let told: Told
    const of = (what: string) => {
      const found = told.get(what) ?? {}
      assert.equal(found.error, undefined, what)
      return found
    }

    /** Both sidecars say that they have seen it; without a mesh the server's word is all there is. */
    function expectSidecars(headers: Readonly<Record<string, string>>, what: string): void {
      const [bracketed, passed] = family === 'v4' ? [to, '127.0.0.6'] : [`[${to}]`, '0:0:0:0:0:0:0:6']
      const expected = meshed
        ? {
            'x-outbound-sidecar': 'client',
            'x-outbound-source': from,
            'x-outbound-destination': `${bracketed}:${PORT}`,
            'x-inbound-sidecar': 'server',
            'x-inbound-source': from,
            'x-inbound-destination': `${bracketed}:${PORT}`,
            'x-app-source': passed,
            'x-app-local': long(to),
          }
        : { 'x-app-source': long(from), 'x-app-local': long(to) }
      const lower = Object.entries(headers).map(([key, value]) => [key.toLowerCase(), value])
      assert.deepEqual(Object.fromEntries(lower.filter(([key]) => key?.startsWith('x-') && !key.startsWith('x-envoy'))), expected, what)
    }

    before(async () => {
      const argv = java(classes, 'Client', to, String(PORT), dns, name)
      const { code, stdout, stderr } = await execResolving(client, { servers: [dns] }, argv)
      assert.equal(code, 0, stdout + stderr)
      told = read(stdout)
    })

    test(`sockets are IPv6 and show the ends that they have without a mesh, ${family}`, () => {
      for (const what of ['socket', 'channel']) {
        const { remote, local, family: kind } = of(what)
        assert.deepEqual({ remote, local, kind }, { remote: `${long(to)}/${PORT}`, local: long(from), kind: '6' }, what)
      }
    })

    test(`HTTP passes both sidecars, ${family}`, () => {
      for (const what of ['socket', 'url', 'client']) expectSidecars(of(what), what)
      for (const what of ['url', 'client']) assert.equal(of(what).status, '204', what)
    })

    test(`DNS is answered in the name of the server that was asked, ${family}`, () => {
      for (const what of ['datagram', 'connectedDatagram', 'datagramChannel', 'connectedChannel']) {
        const { answerer, who, transport } = of(what)
        assert.deepEqual({ answerer, who, transport }, { answerer: `${long(dns)}/53`, who: String(teller), transport: 'udp' }, what)
      }
      assert.equal(of('datagram').family, '6')
      const { remote, local } = of('connectedDatagram')
      assert.deepEqual({ remote, local }, { remote: `${long(dns)}/53`, local: long(from) })
      assert.equal(of('naming').who, String(teller))
    })

    const teller = meshed ? PROXY : family === 'v4' ? 1 : 2

    test(`names, ${family}`, () => {
      const address = of('names').address ?? ''
      assert.equal(readAddress(`lookup.${name}`, address)?.who, teller, address)
    })
  }
}
