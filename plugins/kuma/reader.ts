/** Reads values one by one and keeps what is wrong with them. */
import { short } from '../shared/text.ts'

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/** Reads an annotation; undefined: it is not there, or wrong. */
export type Read = <T>(name: string, parse: (text: string) => T) => T | undefined

export class Reader {
  readonly complaints: string[] = []

  /** `title`: where the value stands. A wrong value leaves a complaint, and the fallback. */
  read<V, T>(title: string, value: V | undefined, parse: (value: V) => T, fallback: T): T {
    if (value === undefined) return fallback
    try {
      return parse(value)
    } catch (error) {
      this.complaints.push(`${title}: ${messageOf(error)}`)
      return fallback
    }
  }
}

/** A value of any kind in a message. */
export const shown = (value: unknown): string => short(typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value)))
