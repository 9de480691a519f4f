/** Whose connection it is, where the question leaves that open. Pure. */

import type { PolicySource } from '../compile/compile.ts'
import { outsideId } from '../compile/localize.ts'
import { OwnerKind } from '../contract.ts'
import { MerbridgeError } from '../errors.ts'
import type { IdSpec } from '../plugin.ts'
import { idRange, maxId } from '../prefix.ts'
import { type MapReader, ownerMembers, type Policy } from './evaluate.ts'
import type { Question } from './question.ts'

export interface Identity {
  readonly uid: number
  readonly gid: number
  readonly mark: number
  /** What the programs see of uid and gid. */
  readonly owner: { readonly uid: number; readonly gid: number }
  /** What was chosen here, in words. */
  readonly assumed: readonly string[]
}

const usual = [1000, 1001, 2000, 10_000, 65_534, 100_000, 2_000_000_000]

/** Just outside of each range: if any id is in no set, one of these or of the usual ones is. */
function besides(specs: readonly IdSpec[]): number[] {
  return specs.flatMap((spec) => {
    const { low, high } = idRange(spec)
    return [high + 1, low - 1].filter((id) => id >= 0 && id <= maxId)
  })
}

/** -1: the pod's user namespace has no such id. */
const ownerId = (kind: 'uid' | 'gid', id: number, source: PolicySource | undefined): number => outsideId(id, source?.locality.ids?.[kind]) ?? -1

function ordinaryId(kind: 'uid' | 'gid', read: MapReader, policy: Policy, source: PolicySource | undefined): number {
  const sets = Object.values(source?.interception.sets ?? {})
  const candidates = [...usual, ...besides(sets.flatMap((set) => set[kind] ?? [])), 0]
  const isFree = (id: number): boolean => id >= 0 && ownerMembers(read, policy.id, kind === 'uid' ? OwnerKind.UID : OwnerKind.GID, id) === 0n
  const free = candidates.find((id) => isFree(ownerId(kind, id, source)))
  if (free !== undefined) return free
  throw new MerbridgeError(
    'USAGE',
    `the pod's rules name every ${kind}, so there is none that an app has for sure`,
    `Say whose connection it is: --${kind} N.`,
  )
}

export function identify(question: Question, read: MapReader, policy: Policy, source: PolicySource | undefined): Identity {
  const { who, uid, gid, mark } = question
  const given = uid !== undefined || gid !== undefined || mark !== undefined
  const proxy = who === 'from-proxy' ? source?.interception.proxy : undefined
  if (who === 'from-proxy' && !given && proxy === undefined) {
    throw new MerbridgeError(
      'USAGE',
      "the mesh's plugin does not say who the pod's proxy is",
      "Give the proxy's ids: --uid N --gid N, and --mark N if its sockets have one. (ps -o uid,gid -p PID shows those of a process.)",
    )
  }
  const choose = (kind: 'uid' | 'gid', asked: number | undefined) => {
    if (asked !== undefined) return { id: asked, note: [] }
    const known = proxy?.[kind]
    if (known !== undefined) return { id: known, note: [`${kind} ${known}, the proxy's`] }
    const id = ordinaryId(kind, read, policy, source)
    return { id, note: [`${kind} ${id}, which no set of the pod's rules names`] }
  }
  const [user, group] = [choose('uid', uid), choose('gid', gid)]
  const marked = mark ?? proxy?.mark ?? 0
  const markNote = mark === undefined ? [`mark 0x${marked.toString(16)}${proxy?.mark === undefined ? '' : ", the proxy's"}`] : []
  const owner = { uid: ownerId('uid', user.id, source), gid: ownerId('gid', group.id, source) }
  const unmapped = [
    ...(owner.uid === -1 ? [`uid ${user.id} is not in the pod's user namespace: no process of the pod has it`] : []),
    ...(owner.gid === -1 ? [`gid ${group.id} is not in the pod's user namespace: no process of the pod has it`] : []),
  ]
  return { uid: user.id, gid: group.id, mark: marked, owner, assumed: [...user.note, ...group.note, ...markNote, ...unmapped] }
}
