/** Random pods of a mesh, what its plugin says of them, and what its own tables say to the packets that they are about. */
import fc from 'fast-check'
import { type AnyPlugin, type Description, describe, type PodFacts } from '../../core/describe.ts'
import { plugins } from '../../core/plugins.ts'
import { address } from '../parity/addresses.ts'
import type { Facts, MeshSet, MeshUnderTest, Reading } from '../parity/mesh.ts'
import { salts } from '../parity/random/sets.ts'
import { unnamed, wrongWarnings } from '../parity/random/told.ts'
import { subjectOf } from '../parity/random/worth.ts'
import { type Judgement, judgeMutants, type Sample, wrongDecision } from './mutants.ts'
import { packetsOf } from './packets.ts'

/** A set, the pod's addresses in their order, and what chooses the packets. */
interface Made {
  readonly facts: Facts
  readonly salt: number
}

const podAddresses = { ipv4: [address.POD, address.PODNET2, address.POD2ND], ipv6: [address.POD6] }

type Family = keyof typeof podAddresses
const families = fc.constantFrom<Family[][]>(['ipv4'], ['ipv4'], ['ipv4', 'ipv6'], ['ipv4', 'ipv6'], ['ipv6', 'ipv4'], ['ipv6'])

const made = ({ sets }: MeshUnderTest): fc.Arbitrary<Made> =>
  fc
    .tuple(sets, families, salts)
    .map(([set, order, salt]) => ({ facts: { ...set, addresses: order.flatMap((family) => podAddresses[family]) }, salt }))

function podFacts({ pod, addresses }: Facts): PodFacts {
  const { namespace = 'default', labels = {}, annotations = {}, containers = [], ...rest } = pod
  const named = typeof namespace === 'string' ? { name: namespace } : namespace
  return {
    name: 'pod',
    namespace: { labels: {}, annotations: {}, ...named },
    labels,
    annotations,
    containers: containers.map((container) => ({ args: [], env: {}, ports: [], ...container })),
    addresses,
    ...rest,
  }
}

function pluginOf({ name }: MeshUnderTest): AnyPlugin {
  const plugin = (plugins as Readonly<Record<string, AnyPlugin | undefined>>)[name]
  if (plugin === undefined) throw new Error(`core/plugins.ts has no plugin ${name}`)
  return plugin
}

/** Options as a config has them. */
function parsed(plugin: AnyPlugin, options: MeshSet['options']): unknown {
  const result = plugin.options.safeParse(options)
  if (result.success) return result.data
  throw new Error(`the plugin refuses the options: ${result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ')}`)
}

/** Why the plugin's answer is not what the mesh would do; undefined: it is. */
function wrongAnswer(reading: Reading<unknown>, answer: Description): string | undefined {
  const shown = `the mesh: ${JSON.stringify(reading)}\nthe plugin: ${JSON.stringify(answer)}`
  if ('rules' in reading !== 'interception' in answer) return shown
  if ('rules' in reading) return wrongWarnings(answer, reading.warned)
  const about = 'refused' in reading ? reading.refused : reading.unsupported
  const reason = 'cannot' in answer ? answer.cannot : 'refused' in answer ? answer.refused : ''
  const wrong = unnamed({ reason, warnings: answer.warnings }, about)
  return wrong && `${wrong}\n${shown}`
}

/** Undefined: a pod that the mesh does not start, and neither does the plugin. Throws where the two differ in that. */
function sampleOf<Rules>(mesh: MeshUnderTest<Rules>, plugin: AnyPlugin, { facts, salt }: Made): Sample | undefined {
  const about = JSON.stringify(facts)
  const reading = mesh.read(facts)
  const answer = describe(plugin, podFacts(facts), parsed(plugin, facts.options))
  const wrong = wrongAnswer(reading, answer)
  if (wrong !== undefined) throw new Error(`${about}\n${wrong}`)
  if (!('rules' in reading) || !('interception' in answer)) return undefined
  const { rules } = reading
  const expect = { outbound: mesh.output, inbound: mesh.prerouting }
  const packets = packetsOf(subjectOf(mesh, rules), salt).map((packet) => ({ packet, expected: expect[packet.direction](rules, packet) }))
  return { interception: answer.interception, packets, about }
}

export interface Choice {
  readonly sets: number
  readonly seed: number
}

/** The same ones for the same choice. */
function* samplesOf(mesh: MeshUnderTest, { sets, seed }: Choice): Iterable<Sample> {
  const plugin = pluginOf(mesh)
  for (const each of fc.sample(made(mesh), { numRuns: sets, seed })) {
    const sample = sampleOf(mesh, plugin, each)
    if (sample !== undefined) yield sample
  }
}

/** The smallest pod with which the plugin itself is not as the mesh, and in what; undefined: there is none among so many. */
function smallestProblem(mesh: MeshUnderTest, { sets, seed }: Choice): string | undefined {
  const plugin = pluginOf(mesh)
  const property = fc.property(made(mesh), (each) => {
    const sample = sampleOf(mesh, plugin, each)
    const wrong = sample && wrongDecision(sample)
    if (wrong !== undefined) throw new Error(`${sample?.about}\n${wrong}`)
  })
  const { failed, counterexample, errorInstance } = fc.check(property, { numRuns: sets, seed })
  if (!failed) return undefined
  const problem = errorInstance instanceof Error ? errorInstance.message : String(errorInstance)
  return `the smallest pod with which the plugin is not as the mesh:\n${JSON.stringify(counterexample?.[0].facts, undefined, 2)}\n${problem.replace(/^{.*\n/, '')}`
}

/** Throws when the plugin is not as the mesh: with the smallest pod that shows it. */
export function judgeMesh(mesh: MeshUnderTest, choice: Choice): Judgement {
  try {
    return judgeMutants(samplesOf(mesh, choice))
  } catch (error) {
    throw new Error(smallestProblem(mesh, choice) ?? (error instanceof Error ? error.message : String(error)))
  }
}
