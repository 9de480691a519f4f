/** Plugins for tests of the config: with options of their own, and from paths and packages that need not be there. */
import { z } from 'zod'
import { MerbridgeError } from '../../core/errors.ts'
import type { AnyPlugin, MeshReference } from '../../core/plugin.ts'
import type { PluginSource } from '../../core/plugins.ts'

export const testPlugin = (name: string, more: Partial<AnyPlugin> = {}): AnyPlugin => ({
  api: 1,
  name,
  options: z.strictObject({}),
  selects: () => false,
  describe: () => ({ outbound: [], inbound: [] }),
  ...more,
})

/** `foreign`: by path or name of the package. What is not there is denied. */
export function testSource(
  builtIn: Readonly<Record<string, AnyPlugin>>,
  foreign: Readonly<Record<string, AnyPlugin>> = {},
): PluginSource & { readonly loads: MeshReference[] } {
  const loads: MeshReference[] = []
  return {
    builtIn,
    loads,
    load: async (reference) => {
      loads.push(reference)
      const name = typeof reference === 'string' ? reference : 'path' in reference ? reference.path : reference.package
      const plugin = typeof reference === 'string' ? builtIn[name] : foreign[name]
      if (plugin !== undefined) return plugin
      throw new MerbridgeError('PLUGIN_DENIED', `${name} is not in a directory that is allowed`, 'Start the agent with --plugin-dir DIRECTORY.')
    },
  }
}
