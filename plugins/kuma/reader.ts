/** What reading values and telling of them needs besides plugins/shared. */
import { short } from '../shared/text.ts'

/** Reads an annotation; undefined: it is not there, or wrong. */
export type Read = <T>(name: string, parse: (text: string) => T) => T | undefined

/** A value of any kind in a message. */
export const shown = (value: unknown): string => short(typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value)))
