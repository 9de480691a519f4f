/** Sizes as people write them: 4MiB, 512KiB, or a number of bytes. */
import { z } from 'zod'

const units = { KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 } as const
type Unit = keyof typeof units
const names = Object.keys(units) as readonly Unit[]

const pattern = /^(\d{1,12})(KiB|MiB|GiB)?$/

/** undefined: it is not a size. */
export function bytesOf(size: number | string): number | undefined {
  if (typeof size === 'number') return size
  const [, digits, unit] = pattern.exec(size) ?? []
  return digits === undefined ? undefined : Number(digits) * (unit === undefined ? 1 : units[unit as Unit])
}

/** In the largest unit that leaves a whole number. */
export function sizeText(bytes: number): string {
  const unit = names.findLast((name) => bytes > 0 && bytes % units[name] === 0)
  return unit === undefined ? String(bytes) : `${bytes / units[unit]}${unit}`
}

/** "4MB", "4Mi", "4 mib" and "4m" are probably meant as 4MiB. */
function meant(size: string): string | undefined {
  const [, digits, letter] = /^\s*(\d{1,12})\s*([kmg])i?b?\s*$/i.exec(size) ?? []
  return digits === undefined ? undefined : `${digits}${letter?.toUpperCase()}iB`
}

function wrong(text: string, least: number, most: number): { readonly message: string; readonly hint: string } | undefined {
  const bytes = bytesOf(text)
  const range = `Write a size from ${sizeText(least)} to ${sizeText(most)}; 1KiB is 1024 bytes.`
  if (bytes !== undefined)
    return bytes >= least && bytes <= most
      ? undefined
      : { message: `must be from ${sizeText(least)} to ${sizeText(most)}, but is ${text}`, hint: range }
  const probably = meant(text)
  const message = `must be a size such as 4MiB or 512KiB, or a number of bytes, but is ${JSON.stringify(text.slice(0, 60))}`
  return { message, hint: probably === undefined ? range : `Did you mean "${probably}"?` }
}

export const size = (least: number, most: number) =>
  z.union([
    z.int().min(least).max(most),
    z
      .string()
      .superRefine((text, context) => {
        const found = wrong(text, least, most)
        if (found !== undefined) context.addIssue({ code: 'custom', message: found.message, params: { hint: found.hint } })
      })
      .meta({ pattern: pattern.source }), // for editors
  ])
