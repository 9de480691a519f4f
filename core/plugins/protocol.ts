/** What the agent asks the process of a plugin, and what that answers. */
import type { PodFacts } from '../readable.ts'

export type Question =
  /** The first one. `file` is what messages call it. */
  | { readonly kind: 'load'; readonly text: string; readonly file: string }
  | { readonly kind: 'options'; readonly input: unknown }
  | { readonly kind: 'selects' | 'describe'; readonly pod: PodFacts; readonly options: unknown }

export type Answer =
  | { readonly value: unknown; readonly warnings?: readonly string[] }
  /** What went wrong, for the plugin's author. `late`: it had to be stopped. `notStarted`: the machine could not start it. */
  | { readonly problem: string; readonly late?: boolean; readonly notStarted?: boolean }

/** To `load`. */
export interface Loaded {
  readonly name: string
  /** JSON Schema of the plugin's options. */
  readonly schema: object
}

/** To `options`: as a zod schema's safeParse. */
export type Parsed = { readonly data: unknown } | { readonly issues: readonly object[] }
