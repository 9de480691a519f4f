/** What every plugin must hold, one check each: built-in or not, whatever its mesh. */
import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import { compilePolicy } from '../compile/policy.ts'
import { describeRules, ruleTitle } from '../compile/rules.ts'
import { type Description, describe, selects } from '../describe.ts'
import type { AnyPlugin, Interception } from '../plugin.ts'
import { deepFreeze } from '../plugins/plain.ts'
import { checkPlugin } from '../plugins/shape.ts'
import { messageOf, type PodFacts } from '../readable.ts'
import { familyProblems } from './families.ts'
import { reordered, watched } from './pure.ts'
import { reachable } from './reach.ts'
import { textProblems } from './texts.ts'

/** One pod under one set of options. */
export interface Case {
  readonly title: string
  readonly pod: PodFacts
  /** As the plugin's schema parsed them. */
  readonly options: unknown
}

export interface Subject {
  readonly plugin: AnyPlugin
  readonly cases: readonly Case[]
}

export interface Check {
  readonly name: string
  /** One sentence for each thing that is wrong. */
  readonly problems: (subject: Subject) => string[]
}

const directions = ['outbound', 'inbound'] as const

function answerTo(plugin: AnyPlugin, { pod, options }: Case): Description {
  return describe(plugin, deepFreeze(structuredClone(pod)), deepFreeze(options))
}

/** The interceptions of all cases that have one which compiles. */
function interceptions({
  plugin,
  cases,
}: Subject): { readonly title: string; readonly interception: Interception; readonly own: readonly string[] }[] {
  return cases.flatMap((each) => {
    try {
      const answer = answerTo(plugin, each)
      if (!('interception' in answer)) return []
      compilePolicy(answer.interception, each.title)
      return [{ title: each.title, interception: answer.interception, own: each.pod.addresses }]
    } catch {
      return [] // another check says so
    }
  })
}

/** What `work` throws, with the case's title. */
function failuresOf(cases: readonly Case[], work: (each: Case) => readonly string[]): string[] {
  return cases.flatMap((each) => {
    try {
      return work(each).map((problem) => `${each.title}: ${problem}`)
    } catch (error) {
      return [`${each.title}: ${messageOf(error)}`]
    }
  })
}

const shape: Check = {
  name: 'has the shape of a plugin',
  problems: ({ plugin }) => {
    try {
      checkPlugin(plugin)
      return []
    } catch (error) {
      return [messageOf(error)]
    }
  },
}

const answers: Check = {
  name: 'answers for every pod with rules that compile, or with a reason',
  problems: ({ plugin, cases }) => {
    const problems = failuresOf(cases, (each) => {
      const answer = answerTo(plugin, each)
      if ('interception' in answer) compilePolicy(answer.interception, each.title)
      selects(plugin, each.pod, each.options)
      return []
    })
    const none = interceptions({ plugin, cases }).length === 0
    return none && problems.length === 0 ? ['it intercepts none of the pods: give pods of the mesh'] : problems
  },
}

const selection: Check = {
  name: 'selects pods of its mesh',
  problems: ({ plugin, cases }) => {
    const taken = cases.some(({ pod, options }) => {
      try {
        return selects(plugin, pod, options)
      } catch {
        return false
      }
    })
    return taken ? [] : ['selects takes none of the pods: give pods of the mesh, or correct it']
  },
}

const purity: Check = {
  name: 'is pure: frozen input, the same answer twice and for keys in another order, no clock, no chance, no network',
  problems: ({ plugin, cases }) =>
    failuresOf(cases, (each) => {
      const { result, looked } = watched(() => ({
        answer: answerTo(plugin, each),
        taken: selects(plugin, deepFreeze(structuredClone(each.pod)), each.options),
      }))
      const other = { ...each, pod: reordered(each.pod), options: reordered(each.options) }
      return [
        ...looked.map((name) => `it looks at ${name}: a plugin sees its pod and its options and nothing else`),
        ...(isDeepStrictEqual(answerTo(plugin, each), result.answer) ? [] : ['it answers differently when it is asked again']),
        ...(isDeepStrictEqual(answerTo(plugin, other), result.answer) ? [] : ['it answers differently when keys are in another order']),
        ...(selects(plugin, other.pod, other.options) === result.taken ? [] : ['selects answers differently when keys are in another order']),
      ]
    }),
}

interface JsonSchema {
  readonly description?: string
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly items?: JsonSchema
}

function undescribed(schema: JsonSchema, path: string): string[] {
  const own = Object.entries(schema.properties ?? {}).flatMap(([key, property]) => {
    const name = path === '' ? key : `${path}.${key}`
    return [...(property.description ? [] : [`option ${name} has no description: add .describe('...')`]), ...undescribed(property, name)]
  })
  return [...own, ...(schema.items === undefined ? [] : undescribed(schema.items, `${path}[]`))]
}

const schema: Check = {
  name: 'has options with valid defaults, descriptions and a JSON Schema',
  problems: ({ plugin: { options } }) => {
    const defaults = options.safeParse({})
    const wrong = defaults.success ? [] : defaults.error.issues.map(({ path, message }) => `without options: ${path.join('.')}: ${message}`)
    const loose = options.safeParse({ 'no-such-option': true }).success ? ['a misspelt option is no error: use kit.z.strictObject'] : []
    try {
      return [...wrong, ...loose, ...undescribed(z.toJSONSchema(options, { io: 'input' }) as JsonSchema, '')]
    } catch (error) {
      return [...wrong, ...loose, `options have no JSON Schema: ${messageOf(error)}`]
    }
  },
}

/** Those that no case uses. */
function unused(subject: Subject, kind: 'sets' | 'targets', namesIn: (interception: Interception) => readonly string[]): string[] {
  const all = interceptions(subject).map(({ interception }) => interception)
  const used = new Set(all.flatMap(namesIn))
  const defined = new Set(all.flatMap((interception) => Object.keys(interception[kind] ?? {})))
  return [...defined].filter((name) => !used.has(name)).map((name) => `${kind.slice(0, -1)} '${name}' is used by no rule`)
}

const complete: Check = {
  name: 'uses every set and every target',
  problems: (subject) => [
    ...unused(subject, 'sets', ({ outbound, inbound }) =>
      [...outbound, ...inbound].flatMap(({ when = {}, unless = {} }) =>
        [when, unless].flatMap(({ port, to, from }) => [port, to, from].flatMap((name) => name ?? [])),
      ),
    ),
    ...unused(subject, 'targets', ({ outbound, inbound }) => [...outbound, ...inbound].map(({ then }) => then)),
  ],
}

const maxName = 80

const explain: Check = {
  name: 'has rules that can be shown',
  problems: (subject) =>
    interceptions(subject).flatMap(({ title, interception }) =>
      describeRules(interception).flatMap(({ direction, index, name, condition, then }) => {
        const place = `${title}: ${ruleTitle(direction, index, name)}`
        const unprintable = /\p{C}/u.test(name + condition + then) ? [`${place}: a name has a character that cannot be printed`] : []
        return name.length > maxName ? [...unprintable, `${place}: the name has more than ${maxName} characters`] : unprintable
      }),
    ),
}

const reach: Check = {
  name: 'has no rule that can never decide',
  problems: (subject) => {
    const all = interceptions(subject).map(({ interception }) => interception)
    return directions.flatMap((direction) => {
      const names = new Set(all.flatMap((interception) => interception[direction].map(({ name }) => name)))
      const alive = new Set(all.flatMap((interception) => [...reachable(interception, direction)]))
      return [...names]
        .filter((name) => !alive.has(name))
        .map((name) => `${direction} rule '${name}': earlier rules take everything that it would take, for every pod given`)
    })
  },
}

const stable: Check = {
  name: 'has one policy for equal rules',
  problems: (subject) =>
    interceptions(subject).flatMap(({ title, interception }) => {
      const [id, other] = [interception, reordered(interception)].map((each) => compilePolicy(each, title).id)
      return id === other ? [] : [`${title}: the policy depends on the order of keys`]
    }),
}

const families: Check = {
  name: 'treats both families and both protocols alike, unless a rule names one',
  problems: (subject) => familyProblems(interceptions(subject)),
}

const texts: Check = {
  name: 'has an answer whatever stands in annotations, arguments and variables',
  problems: ({ plugin, cases }) => {
    const seen = new Set<PodFacts>()
    const found = new Map<string, string>()
    for (const { title, pod, options } of cases) {
      if (seen.has(pod)) continue // its first options are enough
      seen.add(pod)
      for (const [place, problem] of textProblems(plugin, pod, options, new Set(found.keys()))) found.set(place, `${title}: ${problem}`)
    }
    return [...found.values()]
  },
}

export const checks: readonly Check[] = [shape, schema, answers, texts, selection, purity, complete, explain, reach, stable, families]
