/** Pods for the tests of the kuma plugin. */
import assert from 'node:assert/strict'
import { stringify } from 'yaml'
import { type AnyPlugin, describe, type PodFacts } from '../../core/describe.ts'
import type { Container, Interception } from '../../core/plugin.ts'
import { plugins } from '../../core/plugins.ts'
import { container, podFacts } from './pods.ts'

export const kuma = plugins.kuma as AnyPlugin

export const traffic = 'traffic.kuma.io'

export const withSidecar = (more: Partial<Container> = {}, ...others: readonly Container[]) => ({
  containers: [container('app', { uid: 1000 }), container('kuma-sidecar', { uid: 5678, gid: 5678, ...more }), ...others],
})

export const kumaPod = (more: Partial<PodFacts> = {}): PodFacts => podFacts({ ...withSidecar(), ...more })

export const configAnnotation = `${traffic}/transparent-proxy-config`
/** With what Kuma's injector writes. */
export const injected = (written: object) => ({ annotations: { [configAnnotation]: stringify(written) } })
export const withInit = (...args: readonly string[]) => withSidecar({}, container('kuma-init', { args }))

export const ask = (facts: Partial<PodFacts>, options: unknown = {}) => describe(kuma, kumaPod(facts), kuma.options.parse(options))

/** The rules that the plugin gives; it must have no warning. */
export function interceptionFor(facts: Partial<PodFacts>, options: unknown = {}): Interception {
  const answer = ask(facts, options)
  assert.ok('interception' in answer, JSON.stringify(answer))
  assert.deepEqual(answer.warnings, [])
  return answer.interception
}

/** What somebody sees of the rules. */
export function summary(facts: Partial<PodFacts>, options: unknown = {}) {
  const { sets = {}, targets = {}, inbound, outbound, loopbackAddresses } = interceptionFor(facts, options)
  return {
    ports: Object.fromEntries(Object.entries(targets).map(([name, { port }]) => [name, port])),
    uid: sets.sidecar?.uid,
    excluded: sets['excluded inbound ports']?.ports ?? [],
    inbound: inbound.length > 0,
    six: loopbackAddresses !== undefined,
    dns: outbound.some(({ name }) => name === 'DNS'),
  }
}
