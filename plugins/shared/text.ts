/** Texts of annotations in messages. */
const longest = 60

/** The text as a message can have it: short, on one line, nothing that a terminal would obey. */
export function short(text: string): string {
  const start = text.length > longest ? `${text.slice(0, longest)}...` : text
  return start.replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, '?')
}

/** An element of the list `text` that is not what was expected. */
export function unexpected(expected: string, element: string, text: string): Error {
  const where = element === text ? '' : ` in '${short(text)}'`
  return new Error(`expected ${expected}, got '${short(element)}'${where}`)
}

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))
