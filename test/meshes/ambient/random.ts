/** Pods of ambient as somebody may write them, with options of the mesh: what is usual, what is odd, and now and then what is wrong. */
import fc from 'fast-check'
import type { MeshSet } from '../../parity/mesh.ts'
import { address } from '../../parity/shape.ts'
import { names } from './reading.ts'

/** There in so many of ten cases; a set without it is the smaller one. */
const optional = <T>(arbitrary: fc.Arbitrary<T>, there: number): fc.Arbitrary<T | undefined> =>
  fc.oneof({ withCrossShrink: true }, { arbitrary: fc.constant(undefined), weight: 10 - there }, { arbitrary, weight: there })

const defined = (values: object) => Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined))

const flag = fc.oneof(
  { arbitrary: fc.constantFrom('true', 'false'), weight: 6 },
  { arbitrary: fc.constantFrom('1', 't', 'T', 'TRUE', 'True', '0', 'f', 'F', 'FALSE', 'False'), weight: 2 },
  { arbitrary: fc.constantFrom('', 'yes', 'off', 'tRUE', ' true', '2'), weight: 1 },
)
const interfaces = fc.constantFrom('', ' , ', 'net2', 'net2, absent0', 'a-name-of-16-chr', 'net2,a b')

const annotations = fc
  .record({
    [names.dns]: optional(flag, 4),
    [names.ingress]: optional(flag, 3),
    [names.reroute]: optional(interfaces, 1),
    'traffic.sidecar.istio.io/excludeOutboundPorts': optional(fc.constantFrom('80', '8080,53'), 1),
  })
  .map(defined)

const labels = fc.record({ [names.mode]: optional(fc.constantFrom('ambient', 'ambient', 'sidecar'), 4) }).map(defined)

/** The usual ones, which nobody has, and such as the test's network has: a peer's, a service's, the pod's own. */
const probes = fc.constantFrom(
  { probeAddress: address.SRC2ND, probeAddress6: address.SRC2ND6 },
  { probeAddress: address.VIP, probeAddress6: address.VIP6 },
  { probeAddress: address.PEER, probeAddress6: address.NODE6 },
  { probeAddress: address.POD, probeAddress6: address.POD6 },
  { probeAddress: '127.0.0.1', probeAddress6: '::1' },
  { probeAddress: '169.254.7.128' },
)

const options = fc
  .record({ captureDns: optional(fc.boolean(), 4), ipv6: optional(fc.boolean(), 3), probes: optional(probes, 6) })
  .map(({ probes: addresses, ...rest }) => defined({ ...rest, ...addresses }))

export const ambientSets: fc.Arbitrary<MeshSet> = fc
  .record({ annotations, labels, options })
  .map(({ options: given, ...pod }) => ({ pod: { ...pod, containers: [{ name: 'app' }] }, options: given }))
