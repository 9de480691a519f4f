/** What a plugin gets as its only argument: the schema library, parsers for annotations and schemas for lists of the same things. */
import { z } from 'zod'
import type { Kit } from './plugin.ts'
import { cidrsOf, idRange, portRange } from './prefix.ts'
import { parseYaml } from './yaml.ts'

/** The schema, and besides a function that throws an Error which says what was expected. */
const accepted = <T>(schema: z.ZodType<T>, read: (value: T) => unknown): z.ZodType<T> =>
  schema.superRefine((value, context) => {
    try {
      read(value)
    } catch (error) {
      context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) })
    }
  })

const numberOrText = z.union([z.int(), z.string()], { error: 'expected a number or a text' })

export const portSpec = accepted(numberOrText, portRange)
export const idSpec = accepted(numberOrText, idRange)
export const cidrSpec = accepted(z.string(), cidrsOf)

/** Reads a list as annotations have it; each element must satisfy `check`. */
const listOf = (text: string, check: (element: string) => unknown): string[] => {
  const elements = text
    .split(',')
    .map((element) => element.trim())
    .filter((element) => element !== '')
  for (const element of elements) check(element)
  return elements
}

const numbersIn = (elements: readonly string[]): (number | string)[] => elements.map((element) => (/^\d+$/.test(element) ? Number(element) : element))

const truths: ReadonlyMap<string, boolean> = new Map([
  ...['1', 't', 'T', 'true', 'TRUE', 'True'].map((text) => [text, true] as const),
  ...['0', 'f', 'F', 'false', 'FALSE', 'False'].map((text) => [text, false] as const),
])

/** As Go's strconv.ParseBool, which the meshes use for their annotations. */
function parseBoolean(text: string): boolean {
  const value = truths.get(text)
  if (value === undefined) throw new Error(`expected true or false, got '${text}'`)
  return value
}

export const kit: Kit = {
  definePlugin: (plugin) => plugin,
  z,
  cannot: (reason) => ({ cannot: reason }),
  refused: (reason) => ({ refused: reason }),
  ports: (text) => numbersIn(listOf(text, portRange)),
  cidrs: (text) => listOf(text, cidrsOf),
  ids: (text) => numbersIn(listOf(text, idRange)),
  boolean: parseBoolean,
  yaml: parseYaml,
  portList: z.array(portSpec),
  cidrList: z.array(cidrSpec),
  idList: z.array(idSpec),
}
