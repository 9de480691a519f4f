/** Reads values one by one and keeps what is wrong with them. */
import { messageOf } from './text.ts'

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
