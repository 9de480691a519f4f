/** The built-in plugins by the name that the config's `mesh` has. Adding a mesh adds a line here. */
import istio from '../plugins/istio/istio.ts'
import { MerbridgeError } from './errors.ts'
import { kit } from './kit.ts'
import type { AnyPlugin, MeshReference } from './plugin.ts'

export const plugins: Readonly<Record<string, AnyPlugin>> = {
  istio: istio(kit),
}

/** Where the config's plugins come from. */
export interface PluginSource {
  readonly builtIn: Readonly<Record<string, AnyPlugin>>
  /** Throws PLUGIN_DENIED or PLUGIN_INVALID for a plugin of somebody else's that may not or cannot be loaded; a name must be one of `builtIn`. */
  load(reference: MeshReference): Promise<AnyPlugin>
}

export const builtInOnly: PluginSource = {
  builtIn: plugins,
  load: async (reference) => {
    const plugin = typeof reference === 'string' && Object.hasOwn(plugins, reference) ? plugins[reference] : undefined
    if (plugin !== undefined) return plugin
    throw new MerbridgeError('PLUGIN_DENIED', 'no directory of plugins is allowed', 'Start the agent with --plugin-dir DIRECTORY.')
  },
}

/** `directories`: those whose plugins the config may name. */
export const pluginSource = (_directories: readonly string[]): PluginSource => builtInOnly
