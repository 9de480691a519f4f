/** The maps of ids of a user namespace: /proc/PID/uid_map and gid_map, lines of three numbers. */
import { addon } from './addon.ts'
import type { IdMapping, NativeError, Users } from './api.ts'
import { nativeError } from './handles.ts'

const ENODATA = 61
const ESTALE = 116

/** By the cookie of the network namespace. What was read once stays true: neither its owner nor the owner's map changes. */
const known = new Map<bigint, Users>()
const MOST_KNOWN = 65_536

function mappings(text: string): IdMapping[] {
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const [inside = 0, outside = 0, count = 0] = line.trim().split(/\s+/).map(Number)
      return { inside, outside, count }
    })
}

async function read(path: string, inode: number): Promise<Users> {
  const operation = `read the user namespace of network namespace ${path}`
  const maps = await addon().namespaceIds(path)
  if (maps.inode !== inode) throw nativeError(operation, ESTALE, 'another namespace is there now')
  const users = { uid: mappings(maps.uid), gid: mappings(maps.gid) }
  // A map is written once, soon after the namespace is made: an empty one is not the last word.
  for (const kind of ['uid', 'gid'] as const) if (users[kind].length === 0) throw nativeError(operation, ENODATA, `its ${kind}s are not mapped (yet)`)
  return users
}

/** Of the user namespace that owns the network namespace behind the path. */
export async function usersOf(path: string, { cookie, inode }: { readonly cookie: bigint; readonly inode: number }): Promise<Users | NativeError> {
  try {
    const users = known.get(cookie) ?? (await read(path, inode))
    if (known.size >= MOST_KNOWN) known.clear() // most are of namespaces that are gone
    known.set(cookie, users)
    return users
  } catch (error) {
    return error as NativeError
  }
}
