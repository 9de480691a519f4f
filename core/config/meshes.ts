/** The part of the schema that says which mesh a pod belongs to: `mesh`, or `meshes` with `match`. */
import { z } from 'zod'
import type { MeshReference } from '../plugin.ts'

/** Kubernetes' operators of label selectors. */
export const operators = ['In', 'NotIn', 'Exists', 'DoesNotExist'] as const

export interface Expression {
  readonly key: string
  readonly operator: (typeof operators)[number]
  readonly values: readonly string[]
}

export interface Selector {
  readonly matchLabels: Readonly<Record<string, string>>
  readonly matchExpressions: readonly Expression[]
}

/** Both must match; one that is absent matches everything. */
export interface Match {
  readonly podSelector?: Selector | undefined
  readonly namespaceSelector?: Selector | undefined
}

/** For a check of a whole map: a misspelt key is one mistake, and no missing one as well. */
export const unlessWrongInside = ({ issues }: { readonly issues: readonly unknown[] }): boolean => issues.length === 0

const maxMeshes = 32
const maxRequirements = 100

const keyHint = 'Write it as Kubernetes does: "app", or with a prefix, "app.kubernetes.io/name".'
const keyPattern = /^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/
const valuePattern = /^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$/
const isKey = (text: string) => keyPattern.test(text)

const labelKey = z.string().refine(isKey, { error: 'is not the key of a label', params: { hint: keyHint } })
const labelValue = z.string().refine((text) => valuePattern.test(text), {
  error: 'is not the value of a label',
  params: { hint: 'A value has at most 63 letters, digits, "-", "_" and "."; it begins and ends with a letter or a digit, or is empty.' },
})

interface Written {
  readonly operator: Expression['operator']
  readonly values?: readonly string[] | undefined
}

const needsValues = ({ operator }: Written) => operator === 'In' || operator === 'NotIn'
const hasValues = ({ values = [] }: Written) => values.length > 0

const expression = z
  .strictObject({
    key: labelKey.describe('Key of the label.'),
    operator: z.enum(operators).describe('In, NotIn: the value is, or is not, one of values; Exists, DoesNotExist: the label is there, or is not.'),
    values: z.array(labelValue).max(maxRequirements).default([]).describe('Values for In and NotIn.'),
  })
  .refine((written) => !needsValues(written) || hasValues(written), {
    error: 'In and NotIn need values',
    params: { hint: 'Write the values, "values: [a, b]"; or use Exists or DoesNotExist.' },
  })
  .refine((written) => needsValues(written) || !hasValues(written), {
    error: 'Exists and DoesNotExist take no values',
    params: { hint: 'Remove values; or use In or NotIn.' },
  })

const selector = z.strictObject({
  matchLabels: z.record(labelKey, labelValue).default({}).describe('Labels that must all be there with these values.'),
  matchExpressions: z.array(expression).max(maxRequirements).default([]).describe('Conditions on labels that must all hold.'),
})

const match = z.strictObject({
  podSelector: selector.exactOptional().describe("Matches the pod's labels; absent or empty: every pod."),
  namespaceSelector: selector
    .exactOptional()
    .describe("Matches the labels of the pod's namespace, which always have kubernetes.io/metadata.name; absent or empty: every namespace."),
})

const pluginPath = z
  .string()
  .max(4095)
  .regex(/^\/[^\0]*$/, 'must be an absolute path, such as /etc/merbridge/plugins/acme.ts')

const packageName = z
  .string()
  .max(214)
  .regex(/^(@[a-z0-9][a-z0-9._-]*\/)?[a-z0-9][a-z0-9._-]*$/, 'must be the name of an npm package, such as "@acme/mesh"')

const foreign = z
  .strictObject({
    path: pluginPath.exactOptional().describe('Absolute path of a plugin (.ts, .mts, .js or .mjs) in a directory that --plugin-dir allows.'),
    package: packageName.exactOptional().describe('Name of a package in node_modules of a directory that --plugin-dir allows.'),
  })
  .refine(({ path, package: name }) => (path === undefined) !== (name === undefined), {
    error: 'needs exactly one of path and package',
    when: unlessWrongInside,
    params: { hint: 'Write "{ path: /etc/merbridge/plugins/FILE.ts }", or "{ package: NAME }".' },
  })
  .meta({ minProperties: 1, maxProperties: 1 }) // for editors, which do not see refinements

/** How the config names a plugin: a mesh that this build has, or somebody else's. */
export const meshReference = (names: readonly string[]) => z.union([z.enum(names), foreign])

const meaning = 'The mesh whose interception rules apply: one that this build has, or a plugin of your own as { path: FILE } or { package: NAME }.'

/** What the schema of the mesh's plugin says is checked when the plugin is loaded. */
const options = z.record(z.string(), z.unknown()).default({}).describe("The mesh's own options; the defaults are those of the mesh.")

/** mesh, options and meshes; that there is either `mesh` or `meshes`, load.ts checks, whatever else is wrong. */
export function meshKeys(names: readonly string[]) {
  const entry = z.strictObject({
    mesh: meshReference(names).describe(meaning),
    options,
    match: match
      .exactOptional()
      .describe('The pods that this entry takes. Absent: those that the plugin itself selects; with one entry alone, every listed pod.'),
  })
  return {
    mesh: meshReference(names).exactOptional().describe(`${meaning} Either this or meshes.`),
    options,
    meshes: z
      .array(entry)
      .max(maxMeshes)
      .refine((entries) => entries.length > 0, {
        error: 'lists no mesh',
        params: { hint: 'Add an entry, such as "- mesh: istio"; or write "mesh: istio" instead.' },
      })
      .meta({ minItems: 1 })
      .exactOptional()
      .describe('Several meshes on one node; the first entry that matches a pod takes it. "mesh" and "options" are short for a list of one.'),
  }
}

/** As the config writes it, with defaults filled in. */
export interface MeshEntry {
  readonly mesh: MeshReference
  /** As the file has them; core/select.ts has what the plugin's schema made of them. */
  readonly options: Readonly<Record<string, unknown>>
  readonly match?: Match
}
