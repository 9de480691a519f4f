/** Which mesh a pod belongs to: the first entry of `meshes` that takes it. Pure apart from asking plugins. */
import type { Match } from './config/meshes.ts'
import { mismatch } from './config/selector.ts'
import { type AnyPlugin, type PodFacts, selects } from './describe.ts'
import { MerbridgeError } from './errors.ts'

/** An entry of the config's meshes with its plugin. */
export interface Mesh {
  readonly plugin: AnyPlugin
  /** As `plugin.options` parsed them. */
  readonly options: unknown
  /** Where the config has it: "mesh", "meshes[0]" */
  readonly entry: string
  /** Absent: the plugin's own selection. */
  readonly match?: Match
}

/** only: it is the one mesh of the config, without a match; match: the entry's match matches; selects: the plugin says that the pod is its mesh's */
export type Why = 'only' | 'match' | 'selects'

export interface Selection {
  readonly mesh: Mesh
  readonly why: Why
  /** Later entries that would have taken the pod, too. */
  readonly also: readonly string[]
  readonly warnings: readonly string[]
}

export const meshTitle = ({ entry, plugin }: Mesh): string => `${entry} (${plugin.name})`

/** undefined: it takes the pod. */
function whyNot({ plugin, options, match }: Mesh, facts: PodFacts): string | undefined {
  if (match !== undefined) return mismatch(match, facts)
  return selects(plugin, facts, options) ? undefined : `the plugin ${plugin.name} does not select it`
}

/** Entries behind the one that took the pod: a plugin that fails here must not cost the pod its mesh. */
function laterTakers(meshes: readonly Mesh[], facts: PodFacts): { readonly also: string[]; readonly warnings: string[] } {
  const also: string[] = []
  const warnings: string[] = []
  for (const mesh of meshes) {
    try {
      if (whyNot(mesh, facts) === undefined) also.push(meshTitle(mesh))
    } catch (error) {
      if (!(error instanceof MerbridgeError)) throw error
      warnings.push(`whether ${meshTitle(mesh)} would take this pod as well is not known: ${error.message}`)
    }
  }
  return { also, warnings }
}

/** Throws PLUGIN_FAILED when a plugin that is asked before any entry has taken the pod cannot answer. */
export function chooseMesh(meshes: readonly Mesh[], facts: PodFacts): Selection | { readonly untaken: string } {
  const [only, ...others] = meshes
  if (only !== undefined && others.length === 0 && only.match === undefined) return { mesh: only, why: 'only', also: [], warnings: [] }
  const reasons: string[] = []
  for (const [index, mesh] of meshes.entries()) {
    const reason = whyNot(mesh, facts)
    if (reason === undefined) return { mesh, why: mesh.match === undefined ? 'selects' : 'match', ...laterTakers(meshes.slice(index + 1), facts) }
    reasons.push(`${meshTitle(mesh)}: ${reason}`)
  }
  return { untaken: `no entry of meshes takes it; ${reasons.join('; ')}` }
}
