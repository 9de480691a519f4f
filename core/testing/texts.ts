/** Whether a plugin has an answer for any text that a pod may bring: one pod with a wrong text must not refuse a whole configuration. */
import { type Description, describe, selects } from '../describe.ts'
import { MerbridgeError } from '../errors.ts'
import type { AnyPlugin, Container } from '../plugin.ts'
import { deepFreeze } from '../plugins/plain.ts'
import { messageOf, type PodFacts } from '../readable.ts'

/** Texts that are no value of anything. */
const junk: readonly string[] = ['', 'junk', '-1', '70000', '99999999999999999999', 'a\u0001\u001b[2J', '{"a": [', 'x'.repeat(5000)]

/** One text of the pod that can be replaced. */
interface Place {
  /** "annotation acme.example/ports" */
  readonly title: string
  readonly advice: string
  /** The pod with another text there. */
  readonly with: (text: string) => PodFacts
}

const parse = 'parse it with pod.parse'

/** An argument may be "--name=value": then the value is a text, too. */
function argumentPlaces(args: readonly string[], container: Container, withContainer: (next: Container) => PodFacts): Place[] {
  return args.flatMap((arg, index) => {
    const [flag = ''] = /^-[^=]*=/.exec(arg) ?? []
    return [...new Set(['', flag])].map((prefix) => ({
      title: `argument ${prefix === '' ? `'${shown(arg)}'` : prefix} of container ${container.name}`,
      advice: parse,
      with: (text: string) => withContainer({ ...container, args: args.with(index, `${prefix}${text}`) }),
    }))
  })
}

function placesIn(pod: PodFacts): Place[] {
  const { annotations, namespace, containers } = pod
  return [
    ...Object.keys(annotations).map((key) => ({
      title: `annotation ${key}`,
      advice: 'read it with pod.read',
      with: (text: string) => ({ ...pod, annotations: { ...annotations, [key]: text } }),
    })),
    ...Object.keys(namespace.annotations).map((key) => ({
      title: `annotation ${key} of the namespace`,
      advice: parse,
      with: (text: string) => ({ ...pod, namespace: { ...namespace, annotations: { ...namespace.annotations, [key]: text } } }),
    })),
    ...containers.flatMap((container, at) => {
      const withContainer = (next: Container) => ({ ...pod, containers: containers.with(at, next) })
      const variables = Object.keys(container.env).map((key) => ({
        title: `variable ${key} of container ${container.name}`,
        advice: parse,
        with: (text: string) => withContainer({ ...container, env: { ...container.env, [key]: text } }),
      }))
      return [...argumentPlaces(container.args, container, withContainer), ...variables]
    }),
  ]
}

const shown = (text: string): string => {
  const printed = JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}...` : text).slice(1, -1)
  return printed.replaceAll('\\"', '"')
}

/** What is wrong with the plugin's answer for this pod; undefined: nothing. */
function complaint(what: 'describe' | 'selects', place: Place, text: string, ask: () => Description | boolean): string | undefined {
  try {
    ask()
    return undefined
  } catch (error) {
    const where = `${place.title} = '${shown(text)}'`
    const threw = error instanceof MerbridgeError && error.cause !== undefined
    return threw
      ? `${what} throws for ${where}: ${place.advice} (${messageOf(error)})`
      : `${what} answers with what is no answer for ${where}: check the text, inside pod.read or pod.parse (${messageOf(error)})`
  }
}

/** One sentence for each place that the plugin does not read with care. Each text is replaced alone, in the pod as it was given. */
export function textProblems(plugin: AnyPlugin, pod: PodFacts, options: unknown, known: ReadonlySet<string>): ReadonlyMap<string, string> {
  const found = new Map<string, string>()
  const frozen = deepFreeze(options)
  for (const place of placesIn(pod)) {
    if (known.has(place.title)) continue // once is enough
    for (const text of junk) {
      const other = deepFreeze(structuredClone(place.with(text)))
      const problem =
        complaint('describe', place, text, () => describe(plugin, other, frozen)) ??
        complaint('selects', place, text, () => selects(plugin, other, frozen))
      if (problem === undefined) continue
      found.set(place.title, problem)
      break
    }
  }
  return found
}
