/**
 * The proof that the contract is wide enough: the hardest rows of every mesh's tables, compiled by hand in the width-*.test.ts beside this file,
 * also of meshes whose plugins come later. Each case is a row that was measured under the mesh's own iptables rules or follows from them.
 */
import assert from 'node:assert/strict'
import type { Interception, Match, Rule } from '../../core/plugin.ts'
import { compileOne } from '../unit/pods.ts'
import { type Connection, Reference } from '../unit/reference.ts'

export type Case = readonly [what: string, connection: Partial<Connection>, verdict: string]

export const remote = '192.0.2.9'
export const remote6 = '2001:db8::9'
export const own = '10.9.0.2'
export const own6 = 'fd09::2'

/** Compiles the rules and asks the reference about each case; what a case leaves out is an app's TCP connection to a remote port 80. */
export function check(interception: Interception, cases: readonly Case[]): void {
  const reference = new Reference(compileOne(interception))
  for (const [what, connection, verdict] of cases) {
    const asked: Connection = { netns: 1n, direction: 'outbound', proto: 'tcp', to: remote, port: 80, uid: 1000, gid: 1000, ...connection }
    assert.equal(reference.decide(asked).verdict, verdict, what)
  }
}

export const pass = (name: string, when: Match, unless: Match = {}): Rule => ({ name, when, unless, then: 'pass' })
