/** Whether an exchange went over the accelerated path as it goes over plain TCP. */
import type { Half } from './program.ts'

/**
 * The closed list of what acceleration may change. None of it can be foreseen when a message is sent: it depends on what the reader does later (its close, its
 * MSG_TRUNC), or on a flag of send() of which the program that decides sees no trace (MSG_OOB, MSG_MORE).
 */
export const namedDifferences = {
  'close-unread':
    'a peer that closes with bytes unread ends the stream (EOF, and poll shows no error) where TCP would reset it (ECONNRESET); the first send() after that is not refused yet',
  urgent: 'urgent data (MSG_OOB) arrives as one more byte of the stream',
  more: 'what is sent with MSG_MORE can be read before the message that ends it',
  trunc: 'recv() with MSG_TRUNC copies the bytes that it should throw away, so it needs a buffer (EFAULT without one)',
  control: 'sendmsg() does not look at control messages, so it does not refuse wrong ones',
  empty: 'recv() of no bytes from an empty socket gives 0 at once instead of EAGAIN',
  zerocopy: 'MSG_ZEROCOPY after SO_ZEROCOPY was set on a connected socket brings more completions than calls',
  fault:
    'send() from memory that the program cannot read gives 0 instead of EFAULT, and recv() into a buffer whose end it cannot write to gives what fits',
  mapped: 'TCP_ZEROCOPY_RECEIVE, of a program that has read with recv() until then, does not see what was redirected: it waits for recv()',
  'low-water':
    'when SO_RCVLOWAT is set while bytes are unread, they can be read also below the mark, and a reader that is told of changes only (EPOLLET) is not told of them again, until they are read',
  disconnect:
    'connect() to AF_UNSPEC leaves what is unread, which can still be read; until then connect() to another peer gives EAGAIN (EPERM before Linux 5.18), and recv() then EAGAIN instead of ECONNRESET or ENOTCONN',
} as const
export type NamedDifference = keyof typeof namedDifferences

const isNamed = (line: string, difference: string) => difference !== '' && line.includes(`difference ${difference}: `)

/** What is not as over plain TCP, one sentence each; the line of the named difference is not looked at. */
export function compareHalves(plain: Half, other: Half, difference = ''): string[] {
  const told = [plain, other].map(({ transcript }) => transcript.filter((line) => !isNamed(line, difference))) as [string[], string[]]
  const title = `${other.name} (${other.side})`
  const failures = other.failures.map((failure) => `${title}: ${failure}`)
  if (plain.skipped.length > 0 && other.skipped.length > 0) return failures
  const at = Array.from({ length: Math.max(told[0].length, told[1].length) }, (_, index) => index).find((index) => told[0][index] !== told[1][index])
  if (at === undefined) return failures
  return [...failures, `${title}: line ${at + 1} is '${told[1][at] ?? '(missing)'}', over plain TCP '${told[0][at] ?? '(missing)'}'`]
}

/** The line of the named difference is there in both, and differs. */
export function differs(plain: readonly Half[], other: readonly Half[], difference: string): boolean {
  const lines = [plain, other].map((halves) => halves.flatMap(({ transcript }) => transcript.filter((line) => isNamed(line, difference))))
  return lines[0]?.length !== 0 && lines[1]?.length !== 0 && JSON.stringify(lines[0]) !== JSON.stringify(lines[1])
}

export interface Comparison {
  readonly name: string
  /** Empty: indistinguishable. */
  readonly problems: readonly string[]
}

/** By exchange; one that is missing on one of the sides is a problem. */
export function compareAll(plain: readonly Half[], other: readonly Half[], differenceOf: (name: string) => string): Comparison[] {
  const names = [...new Set([...plain, ...other].map(({ name }) => name))]
  return names.map((name) => {
    const problems = (['client', 'server'] as const).flatMap((side) => {
      const [before, after] = [plain, other].map((halves) => halves.find((half) => half.name === name && half.side === side))
      if (before === undefined || after === undefined) return [`${name} (${side}): did not end${after === undefined ? '' : ' over plain TCP'}`]
      return [
        ...before.failures.map((failure) => `${name} (${side}), over plain TCP: ${failure}`),
        ...compareHalves(before, after, differenceOf(name)),
      ]
    })
    return { name, problems }
  })
}
