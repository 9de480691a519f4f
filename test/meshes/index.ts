/** Every mesh that the differential suite and the mutants run for. */
import type { MeshUnderTest } from '../parity/mesh.ts'
import { ambientMesh } from './ambient/mesh.ts'
import { istioMesh } from './istio/mesh.ts'
import { kumaMesh } from './kuma/mesh.ts'
import { linkerdMesh } from './linkerd/mesh.ts'
import { osmMesh } from './osm/mesh.ts'

export const meshes: readonly MeshUnderTest[] = [istioMesh, ambientMesh, kumaMesh, osmMesh, linkerdMesh]

/** For command lines: the named one, or all. Answers what is wrong. */
export function meshesNamed(name: string | undefined): readonly MeshUnderTest[] | string {
  if (name === undefined) return meshes
  const found = meshes.filter((mesh) => mesh.name === name)
  return found.length > 0 ? found : `--mesh: expected ${meshes.map((mesh) => mesh.name).join(', ')}, got '${name}'`
}
