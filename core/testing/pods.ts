/** Pods that every plugin must have an answer for, whatever it is. */
import type { Container } from '../plugin.ts'
import type { PodFacts } from '../readable.ts'

export const testContainer = (name: string, more: Partial<Container> = {}): Container => ({ name, args: [], env: {}, ports: [], ...more })

/** A pod with one container and one address; `more` replaces parts of it. */
export const testPod = (more: Partial<PodFacts> = {}): PodFacts => ({
  name: 'web',
  namespace: { name: 'default', labels: {}, annotations: {} },
  labels: {},
  annotations: {},
  containers: [testContainer('app')],
  addresses: ['10.0.0.2'],
  ...more,
})

/** Those that lack something, or have a lot of it. */
export const usualPods: readonly PodFacts[] = [
  testPod(),
  testPod({ name: 'no-address', addresses: [] }),
  testPod({ name: 'no-container', containers: [] }),
  testPod({ name: 'dual-stack', addresses: ['10.0.0.3', 'fd00::3'] }),
  testPod({ name: 'ipv6', addresses: ['fd00::4'] }),
  testPod({ name: 'crowded', containers: Array.from({ length: 100 }, (_, index) => testContainer(`c${index}`, { uid: index, gid: index })) }),
]
