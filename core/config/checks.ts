/** What is wrong with a config beyond the shape of its keys: things that exclude each other, things that are there twice. */
import { posix } from 'node:path'
import type { Path } from './document.ts'
import type { Finding } from './explain.ts'
import type { Match } from './meshes.ts'
import { fieldsOf } from './resolve.ts'
import type { Config } from './schema.ts'
import { contradictions, matchesEverything, mismatch, namespaceNameLabel } from './selector.ts'

type LineAt = (path: Path) => number

/** Valid, but probably not what its author wants. */
export interface ConfigWarning {
  readonly line: number
  readonly column: number
  /** "meshes[1].match" */
  readonly path: string
  readonly message: string
  readonly hint: string
}

/** Somebody named the ConfigMap instead of what is in it: one mistake, and not as many as it has keys. */
export function kubernetesObject(value: unknown): Finding | undefined {
  const { apiVersion, kind } = fieldsOf(value)
  if (typeof apiVersion !== 'string' || typeof kind !== 'string' || Array.isArray(value)) return undefined
  const hint = 'Name a file with the config alone; a ConfigMap has it as a text below "data".'
  return { path: ['apiVersion'], part: 'key', message: `this is a ${kind} of Kubernetes, not a config of Merbridge`, hint }
}

/** Works on what the file says, whether or not the rest of it is valid. */
export function consistency(value: unknown, lineAt: LineAt): Finding[] {
  return [...oneKindOfMesh(value, lineAt), ...twins(value, lineAt)]
}

/** Either `mesh` with its options, or `meshes`. */
function* oneKindOfMesh(value: unknown, lineAt: LineAt): Generator<Finding> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return
  const has = (key: string) => Object.hasOwn(value, key)
  if (has('mesh') && has('meshes')) {
    const message = `mesh (line ${lineAt(['mesh'])}) and meshes exclude each other`
    yield { path: ['meshes'], part: 'key', message, hint: 'Make the mesh, with its options, an entry of meshes; or remove meshes.' }
  } else if (has('options') && has('meshes')) {
    const hint = 'Move it into the entry of meshes that it is for: "- mesh: istio", and below it "options:".'
    yield { path: ['options'], part: 'key', message: 'options belong to "mesh"; each entry of meshes has its own', hint }
  } else if (!has('mesh') && !has('meshes')) {
    const hint = 'Add "mesh: istio"; or "meshes:", a list, where a node has several.'
    yield { path: ['mesh'], part: 'value', message: 'the key "mesh" is missing', hint, missing: true }
  }
}

function nameOf(pod: Readonly<Record<string, unknown>>): string {
  const namespace = typeof pod.namespace === 'object' ? fieldsOf(pod.namespace).name : (pod.namespace ?? 'default')
  return `${String(namespace)}/${String(pod.name)}`
}

function netnsOf(pod: Readonly<Record<string, unknown>>): string | undefined {
  if (typeof pod.netns === 'string') return posix.normalize(pod.netns)
  return typeof pod.pid === 'number' ? `/proc/${pod.pid}/ns/net` : undefined
}

/** Two pods of one name, or in one network namespace. */
function* twins(value: unknown, lineAt: LineAt): Generator<Finding> {
  const list = fieldsOf(fieldsOf(value).workloads).static
  const seen = new Map<string, Path>()
  for (const [index, item] of (Array.isArray(list) ? list : []).entries()) {
    const pod = fieldsOf(item)
    const netns = netnsOf(pod)
    const place: Path = ['workloads', 'static', index]
    const claims = [
      { what: `pod ${nameOf(pod)}`, path: [...place, 'name'], hint: 'Rename one of the two, or remove it.', made: typeof pod.name === 'string' },
      {
        what: `network namespace ${netns}`,
        path: [...place, 'netns' in pod ? 'netns' : 'pid'],
        hint: 'A network namespace is one pod.',
        made: netns !== undefined,
      },
    ]
    for (const { what, path, hint } of claims.filter(({ made }) => made)) {
      const first = seen.get(what)
      if (first === undefined) seen.set(what, path)
      else yield { path, part: 'value', message: `the ${what} is listed twice, in lines ${lineAt(first)} and ${lineAt(path)}`, hint }
    }
  }
}

const selectorsOf = ({ podSelector, namespaceSelector }: Match) => [
  { name: 'podSelector', selector: podSelector, always: [] },
  { name: 'namespaceSelector', selector: namespaceSelector, always: [namespaceNameLabel] },
]

/** Conditions that no label can meet together. */
export function impossibleMatches({ meshes }: Config, lineAt: LineAt): Finding[] {
  return meshes.flatMap(({ match }, index) =>
    selectorsOf(match ?? {}).flatMap(({ name, selector, always }) =>
      contradictions(selector ?? { matchLabels: {}, matchExpressions: [] }, always).map(({ key, first, second }): Finding => {
        const at: Path = ['meshes', index, 'match', name]
        const message =
          first === second
            ? `no namespace meets this: each has the label "${key}", with its name`
            : `contradicts line ${lineAt([...at, ...first])}: no value of the label "${key}" meets both, so this entry would never take a pod`
        return {
          path: [...at, ...second],
          part: 'value',
          message,
          hint: first === second ? 'Correct this condition, or remove it.' : 'Correct one of the two, or remove this condition.',
        }
      }),
    ),
  )
}

interface Idle {
  readonly path: Path
  readonly message: string
  readonly hint: string
}

/** Entries whose match takes none of the listed pods. What plugins select is theirs to say. */
export function idleMatches({ meshes, pods }: Config): Idle[] {
  const taken = new Set<number>() // by entries with a match
  return meshes.flatMap(({ match }, index) => {
    if (match === undefined) return []
    const path = ['meshes', index, 'match']
    const earlier = meshes.slice(0, index).findIndex((other) => other.match !== undefined && matchesEverything(other.match))
    if (earlier >= 0) {
      const hint = 'Move this entry before it: the first that matches takes the pod.'
      return [{ path, message: `can never take a pod: meshes[${earlier}] before it takes every pod`, hint }]
    }
    const matched = [...pods.keys()].filter((pod) => mismatch(match, pods[pod] as Config['pods'][number]) === undefined)
    const left = matched.filter((pod) => !taken.has(pod))
    for (const pod of matched) taken.add(pod)
    if (pods.length === 0 || left.length > 0) return []
    return [{ path, ...(matched.length > 0 ? shadowed : unmatched(pods.length)) }]
  })
}

const shadowed = {
  message: 'takes no pod: earlier entries take every pod that it matches',
  hint: 'Move this entry before them: the first that matches takes the pod.',
}

const unmatched = (pods: number) => ({
  message: `matches no pod: this config lists ${pods}, and none has such labels`,
  hint: 'Compare it with the labels of the pods and of their namespaces.',
})
