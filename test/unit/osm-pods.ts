/** Pods for the tests of the osm plugin, and what it answers about them. */
import assert from 'node:assert/strict'
import { type AnyPlugin, type Description, describe, type PodFacts } from '../../core/describe.ts'
import type { Container, Interception, Pod } from '../../core/plugin.ts'
import { plugins } from '../../core/plugins.ts'
import { container, podFacts } from './pods.ts'

export const osm = plugins.osm as AnyPlugin

/** A pod with the sidecar of OSM. */
export const osmPod = (more: Partial<PodFacts> = {}): PodFacts =>
  podFacts({ labels: { 'osm-proxy-uuid': 'a' }, containers: [container('app'), container('envoy', { uid: 1500 })], ...more })

/** A pod with the sidecar of FSM. */
export const fsmPod = (more: Partial<PodFacts> = {}): PodFacts =>
  podFacts({ labels: { 'fsm-proxy-uuid': 'a' }, containers: [container('app'), container('sidecar', { uid: 1500 })], ...more })

/** As the injector leaves it. */
export const withScript = (script: string, name = 'osm-init'): readonly Container[] => [
  container('app'),
  container(name === 'osm-init' ? 'envoy' : 'sidecar', { uid: 1500 }),
  container(name, { args: ['-c', script] }),
]

/** What the plugin answers, as it is written, and the warnings; core takes the same answer. */
export function ask(facts: PodFacts, options: unknown = {}): Description {
  const warnings: string[] = []
  const parsed = osm.options.parse(options)
  const pod: Pod = {
    ...facts,
    read: (_annotation, _parse, fallback) => fallback,
    parse: (_title, _text, _parse, fallback) => fallback,
    warn: (message) => void warnings.push(message),
  }
  const answer = osm.describe(pod, parsed as never)
  const known = Object.keys(describe(osm, facts, parsed))
  assert.ok(known.includes('outbound' in answer ? 'interception' : (Object.keys(answer)[0] ?? '')), JSON.stringify(answer))
  return 'outbound' in answer ? { interception: answer, warnings } : { ...answer, warnings }
}

export function interceptionFor(facts: PodFacts, options: unknown = {}): Interception {
  const answer = ask(facts, options)
  assert.ok('interception' in answer, JSON.stringify(answer))
  return answer.interception
}

/** Elements of a set; undefined: no rule has it. */
export const setFor = (name: string, facts: PodFacts, options: unknown = {}) => interceptionFor(facts, options).sets?.[name]

export const rulesOf = (interception: Interception, direction: 'outbound' | 'inbound'): readonly string[] =>
  interception[direction].map(({ name }) => name)
