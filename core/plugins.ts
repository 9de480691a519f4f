/** The built-in plugins by the name that the config's `mesh` has. Adding a mesh adds a line here. */
import istio from '../plugins/istio/istio.ts'
import { kit } from './kit.ts'
import type { AnyPlugin } from './plugin.ts'

export const plugins: Readonly<Record<string, AnyPlugin>> = {
  istio: istio(kit),
}
