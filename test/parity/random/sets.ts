/** What the suite adds to a mesh's random pods: families, the kind of iptables, and which connections are made. */
import fc from 'fast-check'
import type { Backend } from '../../lab/restore.ts'
import type { MeshSet, MeshUnderTest } from '../mesh.ts'
import type { Kind } from '../shape.ts'

export interface RandomSet extends MeshSet {
  readonly kind: Kind
  readonly backend: Backend
  /** Chooses the connections. */
  readonly salt: number
}

const kinds = fc.constantFrom<Kind[]>('v4', 'v4', 'v4', 'dual', 'dual', 'v6', 'v6')

export const salts = fc.noBias(fc.noShrink(fc.nat()))

export const randomSets = ({ sets }: MeshUnderTest, backends: readonly Backend[]): fc.Arbitrary<RandomSet> =>
  fc
    .tuple(sets, fc.record({ kind: kinds, backend: fc.constantFrom(...backends), salt: salts }))
    .map(([{ pod, options }, rest]) => ({ pod, options, ...rest }))
