/** Whether a pod says what a reading of the mesh expects it to say. */

/** What an agent or a plugin says of a pod. */
export interface Said {
  readonly reason?: string
  readonly warnings: readonly string[]
}

/** Something of a pod that is not enrolled names what is at fault, with or without its prefix. Answers what is wrong. */
export function unnamed({ reason = '', warnings }: Said, about: string): string | undefined {
  const name = about.replace(/^.*\//, '')
  if ([reason, ...warnings].some((text) => text.includes(name))) return undefined
  return `neither its reason nor a warning names ${about}; reason: ${reason || 'none'}; warnings: ${listed(warnings)}`
}

/** The whole name: `exclude-ports` is not in "exclude-ports-for-uids", and `ports` not in "exclude-ports". */
function speaksOf(text: string, name: string): boolean {
  const quoted = name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
  return new RegExp(`(?<![\\w-])${quoted}(?![\\w-]|[./]\\w)`).test(text)
}

const listed = (warnings: readonly string[]) => (warnings.length === 0 ? 'none' : warnings.map((each) => `\n  ${each}`).join(''))

/** Exactly one warning for each name, and none besides. Answers what is wrong. */
export function wrongWarnings({ warnings }: Said, names: readonly string[] = []): string | undefined {
  const wrong = names.flatMap((name) => {
    const count = warnings.filter((text) => speaksOf(text, name)).length
    return count === 1 ? [] : [`${count} warnings name ${name}, expected one`]
  })
  const besides = warnings.filter((text) => !names.some((name) => speaksOf(text, name)))
  if (besides.length > 0) wrong.push(`${besides.length} warnings name nothing that one is expected for`)
  return wrong.length === 0 ? undefined : `${wrong.join('; ')}; warnings: ${listed(warnings)}`
}

/** Rules of before instead of the set's own: its connections would say nothing about the set. Answers what is wrong. */
export const keepsOldRules = ({ warnings }: Said): string | undefined => warnings.find((text) => text.includes('the rules of before stay'))
