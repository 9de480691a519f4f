/** How the agent learns the cookies of network namespaces on kernels that do not tell them (before Linux 5.14): see bpf/cookie.bpf.c. */
import { dirname } from 'node:path'
import type { BpfObject, Handle, Namespaces, Native } from '../native/api.ts'
import { CGROUP2_MAGIC } from '../requirements.ts'
import { using } from '../scope.ts'
import { attachTypes, cookieProgram } from './hooks.ts'

/** The agent itself may be outside the cgroup of the pods, but not outside the hierarchy. */
function topOf(native: Native, cgroup: string): string {
  const parent = dirname(cgroup)
  return parent !== cgroup && native.filesystemType(parent) === CGROUP2_MAGIC ? topOf(native, parent) : cgroup
}

export interface CookieTeller {
  readonly namespaces: Namespaces
  close(): void
}

/** The program is attached as long as what is returned is not closed. It is not pinned: it serves the agent alone. */
export function attachCookieTeller(native: Native, object: BpfObject, cgroup: string): CookieTeller {
  const link: Handle = using(object.program(cookieProgram), (program) => native.attachCgroup(program, topOf(native, cgroup), attachTypes.sockCreate))
  const cookies = object.map('cookies')
  return {
    namespaces: { ...native.namespaces, inspect: (paths) => native.namespaces.inspect(paths, cookies) },
    close() {
      link.close()
      cookies.close()
    },
  }
}
