/** The built-in plugins by the name that the config's `mesh` has: adding a mesh adds a line here. And where those of others come from. */
import ambient from '../plugins/ambient/ambient.ts'
import istio from '../plugins/istio/istio.ts'
import kuma from '../plugins/kuma/kuma.ts'
import linkerd from '../plugins/linkerd/linkerd.ts'
import osm from '../plugins/osm/osm.ts'
import { listed, nearest } from './config/nearest.ts'
import { kit } from './kit.ts'
import type { AnyPlugin, MeshReference } from './plugin.ts'
import { invalid, type PluginFile, readAllowed } from './plugins/file.ts'
import { type ForeignPlugin, foreignPlugin } from './plugins/foreign.ts'
import { readPackage } from './plugins/package.ts'

export const plugins: Readonly<Record<string, AnyPlugin>> = {
  istio: istio(kit),
  ambient: ambient(kit),
  kuma: kuma(kit),
  osm: osm(kit),
  linkerd: linkerd(kit),
}

/** Where the config's plugins come from. */
export interface PluginSource {
  readonly builtIn: Readonly<Record<string, AnyPlugin>>
  /** Throws PLUGIN_DENIED or PLUGIN_INVALID for a plugin of somebody else's that may not or cannot be loaded; a name must be one of `builtIn`. */
  load(reference: MeshReference): Promise<AnyPlugin>
}

/** Plugins that are remembered over reloads. */
const maxKept = 16

const extensions = ['.ts', '.mts', '.js', '.mjs']

function builtIn(name: string): AnyPlugin {
  const plugin = Object.hasOwn(plugins, name) ? plugins[name] : undefined
  if (plugin !== undefined) return plugin
  const [best] = nearest(name, Object.keys(plugins))
  const meant = best === undefined ? '' : `Did you mean ${best}? `
  throw invalid(
    `unknown mesh '${name}'`,
    `${meant}Built in: ${listed(Object.keys(plugins), 'and')}; a plugin of your own is named with path or package.`,
  )
}

function readFile(reference: { readonly path: string } | { readonly package: string }, directories: readonly string[]): PluginFile {
  const read = 'path' in reference ? readAllowed(reference.path, directories) : readPackage(reference.package, directories)
  if (extensions.some((extension) => read.file.endsWith(extension))) return read
  throw invalid(`${read.file} does not end in ${listed(extensions)}`, 'Name a file of TypeScript or JavaScript.')
}

/**
 * `directories`: those that the operator allowed; absolute. Each load reads the file anew; as long as it has not changed, the same plugin comes back, with
 * what it has said already.
 */
export function pluginSource(directories: readonly string[]): PluginSource {
  const loaded = new Map<string, ForeignPlugin & { readonly text: string }>()
  return {
    builtIn: plugins,
    load: async (reference) => {
      if (typeof reference === 'string') return builtIn(reference)
      const { file, text } = readFile(reference, directories)
      const key = JSON.stringify(reference)
      const known = loaded.get(key)
      if (known?.text === text) return known.plugin
      const foreign = foreignPlugin(text, file)
      known?.stop() // the config in force may still ask it, which starts it again
      loaded.delete(key)
      loaded.set(key, { ...foreign, text })
      const [[oldest, unused] = []] = loaded
      if (loaded.size > maxKept && oldest !== undefined) {
        unused?.stop()
        loaded.delete(oldest)
      }
      return foreign.plugin
    },
  }
}

/** No plugins but the built-in ones. */
export const builtInOnly: PluginSource = pluginSource([])
