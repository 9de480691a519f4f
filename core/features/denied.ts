/**
 * Kernels on which using a feature crashes or hangs the node. The only place where a version decides: everything else is probed by doing, but a hang
 * cannot be tried. A distribution may have the fix under an older number, and is then served by the fallback, which works everywhere.
 */
import { release, version } from 'node:os'
import type { Optional, Probed } from './catalogue.ts'

type Version = readonly [major: number, minor: number, patch: number]

export interface Defect {
  readonly feature: Optional['id'] | Probed['id']
  readonly from: Version
  readonly reason: string
  readonly source: string
  /** First release with the fix, per stable series that got it; the last one is the mainline release. Empty: there is none yet. */
  readonly fixed: readonly Version[]
}

/*
 * The numbers are those of the CVE records ("affected" of kernel.org, as of May 2026). Not here, because acceleration does not come near them:
 *
 * CVE-2025-38154 ("Avoid using sk_socket after free when sending") and CVE-2026-43016 (sk_psock_verdict_data_ready) are about sockets with a verdict
 * program (sk_skb), and about their backlog; there is none here. CVE-2026-74589 (a redirect's target freed in tcp_bpf_send_verdict) needs apply_bytes,
 * which no program here uses. CVE-2026-74714 is in iterators of the type iter/tcp: mb_nudge is one, and it is read only when a reader stands still behind
 * bytes that it was told of (mb_late), which hardly ever happens; without it such a reader would wait for ever. CVE-2024-35895 is about deletions with interrupts off; here sockets join and
 * leave in iterators, or go with their map. FIONREAD of a joined socket differs by kernel, too, and is found out by trying (core/selftest/checks.ts).
 */
export const defects: readonly Defect[] = [
  {
    feature: 'listener_iterator',
    from: [5, 11, 0],
    reason: 'hangs this CPU: the iterator holds the lock of the socket that the sockhash wants to take',
    source: 'fixed by "bpf: tcp: Avoid taking fast sock lock in iterator"; the rework that brought it began after 5.10',
    fixed: [
      [6, 1, 42],
      [6, 5, 0],
    ],
  },
  {
    feature: 'listener_iterator',
    from: [5, 15, 0],
    reason: 'may free a socket twice when a connection arrives while it runs (CVE-2026-74714)',
    source: 'the CVE record',
    fixed: [
      [6, 1, 183],
      [6, 6, 152],
      [6, 12, 104],
      [6, 18, 45],
      [7, 1, 9],
      [7, 2, 0],
    ],
  },
  {
    feature: 'acceleration',
    from: [5, 13, 0],
    reason: 'taking a socket out of a sockhash while its owner closes it leaks the socket, and its port with it (CVE-2024-39500)',
    source: 'fixed by "sock_map: avoid race between sock_map_close and sk_psock_put"',
    fixed: [
      [5, 15, 162],
      [6, 1, 95],
      [6, 6, 35],
      [6, 9, 6],
      [6, 10, 0],
    ],
  },
  {
    feature: 'acceleration',
    from: [4, 20, 0],
    reason: "a redirect that the kernel cuts short corrupts the account of the sender's memory (CVE-2024-56633)",
    source: 'fixed by "tcp_bpf: Fix the sk_mem_uncharge logic in tcp_bpf_sendmsg"',
    fixed: [
      [5, 10, 231],
      [5, 15, 174],
      [6, 1, 120],
      [6, 6, 66],
      [6, 12, 5],
      [6, 13, 0],
    ],
  },
  {
    feature: 'acceleration',
    from: [5, 7, 0],
    reason: 'an MPTCP subflow that gets into a sockhash crashes the node (CVE-2025-68227)',
    source: 'fixed by "mptcp: Disallow MPTCP subflows from sockmap" and "mptcp: Fix proto fallback detection with BPF"',
    fixed: [
      [5, 10, 247],
      [5, 15, 197],
      [6, 1, 159],
      [6, 6, 118],
      [6, 12, 60],
      [6, 17, 10],
      [6, 18, 0],
    ],
  },
  {
    feature: 'acceleration',
    from: [5, 11, 0],
    reason: 'a reader that hears of changes only cannot be told again: bpf_setsockopt(SO_RCVLOWAT) wakes nobody there',
    source: 'since "bpf: Change bpf_setsockopt(SOL_SOCKET) to reuse sk_setsockopt()" it does',
    fixed: [[6, 1, 0]],
  },
  {
    feature: 'storage_iterator',
    from: [7, 0, 0],
    reason: 'crashes the node when a socket closes while the iterator reads its storage: the pointer that it reads twice is cleared meanwhile',
    source:
      'since "bpf: Switch to bpf_selem_unlink_nofail in bpf_local_storage_{map_free, destroy}"; __bpf_sk_storage_map_seq_show was not changed with it',
    fixed: [],
  },
  {
    feature: 'acceleration',
    from: [7, 0, 0],
    reason: 'neither of the iterators that find its sockets is safe: not the one over their storage, nor the one over TCP sockets (CVE-2026-74714)',
    source: 'as for `storage_iterator` and `listener_iterator`',
    fixed: [
      [7, 1, 9],
      [7, 2, 0],
    ],
  },
]

function compare(a: Version, b: Version): number {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2]
}

const sameSeries = (a: Version, b: Version): boolean => a[0] === b[0] && a[1] === b[1]

/**
 * uname's release and version. Distributions that keep one release name for a whole series tell the real level in the version: "6.1.0-56-amd64",
 * "#1 SMP PREEMPT_DYNAMIC Debian 6.1.182-1 (2026-10-29)".
 */
export function kernelVersion(release: string, version: string): Version {
  const number = / Debian (\d+\.\d+\.\d+)/.exec(version)?.[1] ?? release
  const [, major, minor, patch = '0'] = /^(\d+)\.(\d+)(?:\.(\d+))?/.exec(number) ?? []
  return [Number(major), Number(minor), Number(patch)]
}

/** Of the kernel that runs. */
export const deniedHere = (feature: string): Defect | undefined => deniedBy(feature, kernelVersion(release(), version()))

/** Why the feature must not be used on this kernel; undefined: no defect is known. */
export function deniedBy(feature: string, kernel: Version, list: readonly Defect[] = defects): Defect | undefined {
  return list.find(({ feature: affected, from, fixed }) => {
    if (affected !== feature || compare(kernel, from) < 0) return false
    const mainline = fixed.at(-1)
    const backport = fixed.find((version) => sameSeries(version, kernel))
    if (backport !== undefined) return compare(kernel, backport) < 0
    return mainline === undefined || compare(kernel, mainline) < 0
  })
}
