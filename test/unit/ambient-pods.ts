/** Pods for the tests of the ambient plugin. */
import assert from 'node:assert/strict'
import { type AnyPlugin, describe, type PodFacts } from '../../core/describe.ts'
import type { Interception } from '../../core/plugin.ts'
import { plugins } from '../../core/plugins.ts'
import { container, podFacts } from './pods.ts'

export const ambient = plugins.ambient as AnyPlugin

export const mode = 'istio.io/dataplane-mode'
export const dnsCapture = 'ambient.istio.io/dns-capture'
export const bypass = 'ambient.istio.io/bypass-inbound-capture'
export const reroute = 'istio.io/reroute-virtual-interfaces'

/** A pod without a sidecar. */
export const ambientPod = (more: Partial<PodFacts> = {}): PodFacts => podFacts({ containers: [container('app')], ...more })

export const ask = (facts: Partial<PodFacts> = {}, options: unknown = {}) => describe(ambient, ambientPod(facts), ambient.options.parse(options))

/** The rules that the plugin gives; it must have no warning. */
export function rulesFor(facts: Partial<PodFacts> = {}, options: unknown = {}): Interception {
  const answer = ask(facts, options)
  assert.ok('interception' in answer, JSON.stringify(answer))
  assert.deepEqual(answer.warnings, [])
  return answer.interception
}
