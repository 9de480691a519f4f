/** What Istio decides by a pod's addresses, it decides when the pod starts: IPv6 stays captured while its addresses come and go. */
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { until } from '../lab/agent.ts'
import { Lab, must } from '../lab/net.ts'
import { both, connectAll, serveEnds } from './ends.ts'
import { DatapathUnderTest } from './fixture.ts'

const lab = await Lab.create('everseen')
after(() => lab.close())

describe('addresses that come and go', { timeout: 60_000 }, async () => {
  const server = await lab.pod('server', { ipv6: true })
  const pod = await lab.pod('six', { ipv6: 'alone' })
  const ip = (...words: string[]) => must(pod.command(['ip', ...words]))

  test('an IPv4 address that is added, and the only IPv6 one that is away for a while, leave IPv6 captured', async () => {
    await using datapath = new DatapathUnderTest('everseen')
    const agent = await datapath.start(datapath.config([pod]))
    await using _proxy = await serveEnds(pod, [both('out', 15001)])
    await using _server = await serveEnds(server, [both('server', 8080)])
    const reached = async () => {
      const [got] = await connectAll(pod, 1000, { family: 6, to: [server.ipv6, 8080] })
      return got?.error ?? got?.seen.listener
    }
    const addresses = (wanted: number) => until('the agent knows', 5000, () => agent.outcomes[0]?.addresses.length === wanted || undefined)
    assert.equal(await reached(), 'out')
    await ip('address', 'add', '10.77.0.99/24', 'dev', 'eth0')
    await addresses(2)
    assert.equal(await reached(), 'out')
    await ip('-6', 'address', 'del', `${pod.ipv6}/64`, 'dev', 'eth0')
    await addresses(1)
    assert.notEqual(await reached(), 'server')
    await ip('-6', 'address', 'add', `${pod.ipv6}/64`, 'dev', 'eth0', 'nodad')
    await ip('-6', 'route', 'replace', 'default', 'via', 'fd77::1', 'dev', 'eth0', 'onlink')
    await until('it goes out again', 5000, async () => ((await reached()) === 'out' ? true : undefined))
  })
})
