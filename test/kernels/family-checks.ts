/** Both families and datagrams, on this kernel. */
import assert from 'node:assert/strict'
import { both, type Case, connectAll, type Got, mapped, serveEnds, withoutPort } from '../kernel/ends.ts'
import { sixty } from '../kernel/sixty.ts'
import type { Check } from './checks.ts'
import type { Refusals } from './differences.ts'
import type { LocalityScene } from './locality-checks.ts'

export const familyNames = ['IPv6, both ways', 'a mapped destination', 'original destination, by level', 'IPv6 without a route'] as const

export async function familyChecks({ lab, datapath, agent }: LocalityScene, check: Check, refusals: Refusals, seesProxy: boolean): Promise<void> {
  const client = await lab.pod('six', { ipv6: true })
  const server = await lab.pod('sixserver', { ipv6: true })
  const four = await lab.pod('four')
  await agent.reload(datapath.withPlugin([client, server, four], sixty))
  await using _out = await serveEnds(client, [both('out', 15001)])
  await using _in = await serveEnds(server, [both('in', 15006)])
  await using _four = await serveEnds(four, [both('out', 15001)])
  const cases: readonly Case[] = [
    { family: 6, to: [server.ipv6, 8080] },
    { family: 6, to: [mapped(server.address), 8080] },
    { family: 4, to: [server.address, 8080] },
  ]
  const [six, map, plain] = (await connectAll(client, 1000, ...cases)) as [Got, Got, Got]
  const [direct] = (await connectAll(client, 1337, { family: 6, to: [server.ipv6, 8080] })) as [Got]
  await check('IPv6, both ways', () => {
    assert.deepEqual([six.seen?.listener, direct.seen?.listener], ['out', 'in'], JSON.stringify([six, direct]))
    assert.equal(withoutPort(six.seen.peer), `[${client.ipv6}]`)
    assert.equal(direct.seen.own, `[${server.ipv6}]:8080`)
    if (!seesProxy) assert.equal(six.peer, `[${server.ipv6}]:8080`)
    return six.seen.own
  })
  await check('a mapped destination', () => {
    assert.equal(map.seen?.listener, 'out', JSON.stringify(map))
    assert.equal(withoutPort(map.own), `[${mapped(client.address)}]`)
    if (!seesProxy) assert.equal(map.peer, `[${mapped(server.address)}]:8080`)
    return map.own
  })
  await check('original destination, by level', () => {
    assert.deepEqual([six.seen.original.ipv6, six.original.ipv6], Array(2).fill(`[${server.ipv6}]:8080`))
    for (const got of [map, plain]) assert.equal(got.seen.original.ip, `${server.address}:8080`)
    return `${six.seen.original.ipv6} ${plain.seen.original.ip}`
  })
  await check('IPv6 without a route', async () => {
    const [none] = await connectAll(four, 1000, { family: 6, to: [server.ipv6, 8080] })
    assert.equal(none?.error, refusals.errno('ENETUNREACH'))
    return refusals.errno('ENETUNREACH')
  })
}
