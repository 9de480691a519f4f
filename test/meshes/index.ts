/** Every mesh that the differential suite and the mutants run for. */
import type { MeshUnderTest } from '../parity/mesh.ts'
import { istioMesh } from './istio/mesh.ts'

export const meshes: readonly MeshUnderTest[] = [istioMesh]

/** For command lines: the named one, or all. Answers what is wrong. */
export function meshesNamed(name: string | undefined): readonly MeshUnderTest[] | string {
  if (name === undefined) return meshes
  const found = meshes.filter((mesh) => mesh.name === name)
  return found.length > 0 ? found : `--mesh: expected ${meshes.map((mesh) => mesh.name).join(', ')}, got '${name}'`
}
