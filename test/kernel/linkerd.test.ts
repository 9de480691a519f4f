/**
 * What Linkerd's proxy and its network validator need, in a pod with the mesh's own rules and in one under the agent: an original destination at every connection that is
 * accepted, also where nobody redirected it, and outbound connections that reach the port of the proxy before there is a proxy.
 */
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { Agent } from '../lab/agent.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { applyIptables } from '../lab/restore.ts'
import { linkerdDefaults, linkerdTables } from '../meshes/linkerd/rules.ts'
import { type Case, connect, type Identity, type ListenerSpec, type Step, serve } from '../parity/probe.ts'

const app: Identity = { uid: 1000, gid: 1000 }
const proxy: Identity = { uid: 2102, gid: 2102 }
const nobody: Identity = { uid: 65534, gid: 65534 }

/** As the validator and the proxy listen: outbound on loopback, inbound and their own ports everywhere. */
const proxyListeners: readonly ListenerSpec[] = [
  { name: 'out', address: '127.0.0.1', port: 4140 },
  { name: 'out', address: '::1', port: 4140 },
  { name: 'in', address: '::', port: 4143 },
  { name: 'control', address: '::', port: 4190 },
]

/** Who accepted, and the destination that the accepted socket says, by the level that fits the client. */
function shown({ error, seen }: Step, six: boolean): string {
  if (error !== undefined) return error
  if (seen === undefined || typeof seen === 'string') return seen ?? 'nothing seen'
  return `${seen.listener} ${seen.origin[six ? 'v6 28' : '16']?.replace(/ \(\d+ bytes\)$/, '')}`
}

describe("what Linkerd's proxy is told", { timeout: 120_000 }, async () => {
  const lab = await Lab.create('linkerd')
  after(() => lab.close())
  const client = await lab.pod('client', { ipv6: true })
  const pods = { rules: await lab.pod('rules', { ipv6: true }), agent: await lab.pod('agent', { ipv6: true }) }
  const subnets = [`${client.address}/32`]
  await applyIptables(pods.rules, linkerdTables({ ...linkerdDefaults, subnets, ipv6: true }))
  const agent = await Agent.start({
    mesh: 'linkerd',
    options: { disableIPv6: false, skipSubnets: subnets },
    pods: [{ name: 'agent', netns: pods.agent.netns, containers: [{ name: 'linkerd-proxy', uid: 2102 }] }],
  })
  after(() => agent.close())

  const reached = async (from: LabPod, as: Identity, ...to: readonly (readonly [string, number])[]): Promise<string[]> => {
    const cases = to.map((each, index): Case => ({ id: String(index), as, to: [each] }))
    const results = await connect(from, cases)
    return results.map(({ steps: [step] }, index) => shown(step as Step, (to[index]?.[0] ?? '').includes(':')))
  }

  test('the network validator reaches itself, without a proxy', async () => {
    for (const [which, pod] of Object.entries(pods)) {
      for (const [listen, to] of [
        ['0.0.0.0', '1.1.1.1'],
        ['::', 'fd00::1'],
        ['::', '1.1.1.1'],
      ] as const) {
        const validator = await serve(pod, nobody, [{ name: 'validator', address: listen, port: 4140 }])
        try {
          const [answer] = await reached(pod, nobody, [to, 20_001])
          assert.match(answer ?? '', /^validator /, `${which}: ${to} to ${listen}`)
        } finally {
          await validator.stop()
        }
      }
    }
  })

  test('every connection that is accepted has its destination, redirected or not', async () => {
    for (const [which, pod] of Object.entries(pods)) {
      const running = [await serve(pod, proxy, proxyListeners), await serve(pod, app, [{ name: 'app', address: '::', port: 8080 }])]
      try {
        assert.deepEqual(
          await reached(
            pod,
            app,
            ['192.0.2.7', 80],
            ['2001:db8::7', 81],
            ['127.0.0.1', 4140],
            ['::1', 4140],
            ['127.0.0.1', 4143],
            [pod.address, 4143],
          ),
          ['out 192.0.2.7:80', 'out [2001:db8::7]:81', 'out 127.0.0.1:4140', 'out [::1]:4140', 'in 127.0.0.1:4143', `in ${pod.address}:4143`],
          `${which}: from the pod`,
        )
        assert.deepEqual(
          await reached(client, app, [pod.ipv6, 8080], [pod.ipv6, 4143], [pod.ipv6, 4140], [pod.ipv6, 4190]),
          [`in [${pod.ipv6}]:8080`, `in [${pod.ipv6}]:4143`, `in [${pod.ipv6}]:4140`, `control [${pod.ipv6}]:4190`],
          `${which}: from outside`,
        )
        // Its address of IPv4 is in a skipped subnet: nobody redirects it.
        assert.deepEqual(
          await reached(client, app, [pod.address, 8080], [pod.address, 4143], [pod.address, 4190]),
          [`app ${pod.address}:8080`, `in ${pod.address}:4143`, `control ${pod.address}:4190`],
          `${which}: from a skipped subnet`,
        )
      } finally {
        for (const each of running) await each.stop()
      }
    }
  })
})
