/** Clients with marks (marks.py), and pods for them: one under the rules of ambient, with listeners where a ztunnel has them, and a peer. */
import { join } from 'node:path'
import type { Interception } from '../../core/plugin.ts'
import { plugins } from '../../core/plugins.ts'
import { rulesOf, testPod } from '../../core/testing.ts'
import { Lab, type LabPod, must } from '../lab/net.ts'
import { type ListenerSpec, serve } from '../parity/probe.ts'
import { app } from '../parity/shape.ts'

const program = join(import.meta.dirname, 'marks.py')

export type Step = readonly [string, ...(string | number)[]]

/** The first step makes the socket; what each step that connects or sends came to. */
export async function marked(pod: LabPod, cases: readonly (readonly Step[])[]): Promise<readonly (readonly string[])[]> {
  const command = pod.command(['/usr/bin/python3', '-I', '-S', '-B', program, JSON.stringify(cases)])
  return JSON.parse(await must(command)) as readonly (readonly string[])[]
}

export function ambientRules(): Interception {
  const { ambient } = plugins
  if (ambient === undefined) throw new Error('no ambient plugin')
  return rulesOf(ambient, testPod({}))
}

const protocols = ['tcp', 'udp'] as const
const everywhere = (name: string, port: number): ListenerSpec[] => protocols.map((protocol) => ({ name, address: '::', port, protocol }))
/** A DNS proxy answers from the address that was asked on loopback. */
const queries = protocols.flatMap((protocol) =>
  ['127.0.0.1', '::1'].map((address): ListenerSpec => ({ name: 'dns', address, port: 15053, protocol })),
)

export interface MarkedPods extends AsyncDisposable {
  readonly client: LabPod
  readonly peer: LabPod
}

export async function markedPods(name: string): Promise<MarkedPods> {
  await using stack = new AsyncDisposableStack()
  const lab = await Lab.create(name)
  stack.defer(() => lab.close())
  const [client, peer] = [await lab.pod('client', { ipv6: true }), await lab.pod('peer', { ipv6: true })]
  const own: ListenerSpec[] = [
    { name: 'ztunnel', address: '::', port: 15001 },
    { name: 'inbound', address: '::', port: 15006 },
    { name: 'own', address: '::', port: 80 },
  ]
  for (const [pod, listeners] of [
    [client, [...own, ...queries]],
    [peer, [...everywhere('peer', 80), ...everywhere('peer', 53)]],
  ] as const) {
    const server = await serve(pod, { ...app, uid: 0, gid: 1337 }, listeners)
    stack.defer(() => server.stop())
  }
  const owned = stack.move()
  return { client, peer, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}
