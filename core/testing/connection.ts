/** Strict reading of the connections that a plugin author writes: a misspelt key or an impossible port would let a test pass for the wrong reason. */
import { listed, nearest } from '../config/nearest.ts'
import type { Connection } from './decide.ts'

const maxId = 0xffffffff

/** What is wrong with the value; '' if nothing is. */
type Check = (value: unknown) => string

const upTo =
  (most: number): Check =>
  (value) =>
    Number.isInteger(value) && Number(value) >= 0 && Number(value) <= most ? '' : `expected a whole number from 0 to ${most}`

const oneOf =
  (...words: readonly string[]): Check =>
  (value) =>
    words.some((word) => word === value) ? '' : `expected ${listed(words)}`

const text: Check = (value) => (typeof value === 'string' ? '' : 'expected a text')

const checks: Readonly<Record<keyof Connection, Check>> = {
  direction: oneOf('outbound', 'inbound'),
  proto: oneOf('tcp', 'udp'),
  to: text,
  port: upTo(65535),
  from: text,
  uid: upTo(maxId),
  gid: upTo(maxId),
  mark: upTo(maxId),
  interface: text,
}

const needed: readonly string[] = ['to', 'port'] satisfies readonly (keyof Connection)[]

/** Throws a TypeError that names the key. What is undefined counts as absent. */
export function checkConnection(connection: Connection): void {
  const known = Object.keys(checks)
  for (const [key, value] of Object.entries(connection)) {
    const check = Object.hasOwn(checks, key) ? checks[key as keyof Connection] : undefined
    if (check === undefined) {
      const close = nearest(key, known)
      throw new TypeError(
        `'${key}' is not a key of a connection: ${close.length > 0 ? `did you mean ${listed(close)}?` : `expected ${listed(known)}`}`,
      )
    }
    const problem = value === undefined ? '' : check(value)
    if (problem !== '') throw new TypeError(`${key}: ${problem}, got ${typeof value === 'string' ? `'${value}'` : String(value)}`)
  }
  const missing = needed.find((key) => connection[key as keyof Connection] === undefined)
  if (missing !== undefined) throw new TypeError(`the connection has no '${missing}'`)
}
