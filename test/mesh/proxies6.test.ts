/**
 * Envoy and HAProxy as sidecars whose listeners are for IPv4, for IPv6, or for both; clients with IPv4, IPv6 and mapped addresses; beside Istio's
 * iptables rules. Each client reaches the app through both sidecars, or is refused, because the proxy does not listen for its family.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { startEnvoy } from '../lab/envoy.ts'
import type { Listening } from '../lab/envoy-config.ts'
import { type HaproxyListening, startHaproxy } from '../lab/haproxy.ts'
import { addIpv6 } from '../lab/ipv6.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { missing } from '../lab/packages.ts'
import { redirect } from '../lab/redirection.ts'
import { type Fetched, fetchAll, startWeb } from '../lab/web.ts'
import { without } from '../lab/without.ts'

type Family = 'v4' | 'v6' | 'mapped'

const PORT = 8080
const families: readonly Family[] = ['v4', 'v6', 'mapped']
const hears = { v4: ['v4', 'mapped'], v6: ['v6'], dual: families, each: families } as const satisfies Record<Listening, readonly Family[]>

for (const redirection of ['iptables', 'merbridge'] as const)
  describe(`proxies of both families, redirection: ${redirection}`, { timeout: 180_000 }, () => suite(redirection))

function suite(redirection: 'iptables' | 'merbridge'): void {
  const seesProxy = redirection === 'merbridge' && without.includes('getpeername')
  let lab: Lab
  let client: LabPod
  let server: LabPod
  /** No sidecar */
  let outsider: LabPod
  let redirected: AsyncDisposable | undefined

  before(async () => {
    lab = await Lab.create('proxies')
    client = await lab.pod('client', { address: '10.77.0.20/24' })
    server = await lab.pod('server', { address: '10.77.0.21/24' })
    outsider = await lab.pod('outsider', { address: '10.77.0.22/24' })
    for (const [index, pod] of [client, server, outsider].entries()) await addIpv6(pod, [`fd77::2${index}`])
    await startWeb(server, PORT)
    redirected = await redirect(redirection, [client, server])
  })

  after(async () => {
    await redirected?.[Symbol.asyncDispose]()
    await lab?.close()
  })

  /** Address number 0 is the client's, 1 the server's, 2 the outsider's. */
  const address = (family: Family, number: number) => ({ v4: '10.77.0.2', v6: 'fd77::2', mapped: '::ffff:10.77.0.2' })[family] + number
  const plain = (family: Family, number: number) => address(family, number).replace('::ffff:', '')

  /** From the client through both sidecars, and from outside through the server's. */
  async function seen(): Promise<readonly (readonly [family: Family, from: number, fetched: Fetched])[]> {
    const hosts = families.map((family) => address(family, 1))
    const answers = [await fetchAll(client, hosts, PORT), await fetchAll(outsider, hosts, PORT)]
    return families.flatMap((family, index) => [0, 2].map((from) => [family, from, answers[from / 2]?.[index] ?? {}] as const))
  }

  /** `destination` and `source` are what each proxy calls them; it is asked for what it saw in the direction. */
  function expectPassed(
    [family, from, fetched]: readonly [Family, number, Fetched],
    say: (direction: 'outbound' | 'inbound', family: Family, from: number) => { readonly source: string; readonly destination: string },
  ): void {
    const told = `${family} from ${from}: ${JSON.stringify(fetched)}`
    assert.equal(fetched.status, 200, told)
    assert.equal(fetched.local, address(family, from), told)
    if (!seesProxy) assert.equal(fetched.peer, `${address(family, 1)}/${PORT}`, told)
    for (const direction of ['outbound', 'inbound'] as const) {
      const header = (name: string) => fetched.headers?.[`x-${direction}-${name}`]
      const passed = direction === 'inbound' || from === 0
      assert.equal(header('sidecar'), passed ? { outbound: 'client', inbound: 'server' }[direction] : undefined, told)
      const expected = passed ? say(direction, family, from) : { source: undefined, destination: undefined }
      assert.deepEqual({ source: header('source'), destination: header('destination') }, expected, `${direction}: ${told}`)
    }
    assert.equal(fetched.headers?.['x-app-source'], family === 'v6' ? '::6' : '127.0.0.6', told)
    assert.equal(fetched.headers?.['x-app-local'], plain(family, 1), told)
  }

  for (const listening of Object.keys(hears) as Listening[])
    test(`Envoy, listening: ${listening}`, async () => {
      await using _client = await startEnvoy(client, 'client', listening)
      await using _server = await startEnvoy(server, 'server', listening)
      for (const each of await seen()) {
        const [family, , fetched] = each
        if (!(hears[listening] as readonly Family[]).includes(family)) assert.deepEqual(fetched, { error: 'ECONNREFUSED' }, family)
        else
          expectPassed(each, (_, kind, from) => ({
            source: plain(kind, from),
            destination: `${kind === 'v6' ? `[${address(kind, 1)}]` : plain(kind, 1)}:${PORT}`,
          }))
      }
    })

  for (const listening of ['v4', 'v6', 'dual'] as const satisfies HaproxyListening[])
    test(`HAProxy, listening: ${listening}`, { skip: missing('haproxy') }, async () => {
      await using _client = await startHaproxy(client, 'client', listening)
      await using _server = await startHaproxy(server, 'server', listening)
      for (const each of await seen()) {
        const [family, , fetched] = each
        if (!(hears[listening] as readonly Family[]).includes(family)) assert.deepEqual(fetched, { error: 'ECONNREFUSED' }, family)
        else expectPassed(each, (direction, kind, from) => asHaproxySaysIt(direction, kind, from, listening))
      }
    })

  /**
   * HAProxy asks for the original destination on IPv4 sockets alone; on others it takes the socket's own address. iptables have changed that to the
   * proxy's own port; without NAT, what comes in still has its own destination.
   */
  function asHaproxySaysIt(direction: 'outbound' | 'inbound', family: Family, from: number, listening: HaproxyListening) {
    const onIpv6 = (text: string) => (listening !== 'v4' && family !== 'v6' ? `::ffff:${text}` : text)
    const source = onIpv6(plain(family, from))
    if (listening === 'v4' || (direction === 'inbound' && redirection === 'merbridge'))
      return { source, destination: `${onIpv6(plain(family, 1))}:${PORT}` }
    if (direction === 'inbound') return { source, destination: `${onIpv6(plain(family, 1))}:15006` }
    return { source, destination: `${family === 'v6' ? '::1' : '::ffff:127.0.0.1'}:15001` }
  }
}
