/** What the numbers of the contract mean to an operator: one name and one sentence for each; docs/acceleration.md has the same table. */
import { AccelReason, AccelStop } from '../contract.ts'

export interface ReasonWords {
  /** "no partner" */
  readonly name: string
  readonly sentence: string
}

const sentences: Readonly<Record<keyof typeof AccelReason, string>> = {
  REDIRECTED: 'the message went straight into the queue of the receiver, past TCP',
  NO_PARTNER: 'the other end is not on this node, or is not known (yet)',
  STOPPED: 'acceleration was off for the whole node',
  POD: 'acceleration was off for the pod at one of the two ends',
  CLOSING: 'one of the two ends was closing, was shut down, or is leaving for TCP',
  SENDER: 'the sender has kernel TLS, SO_ZEROCOPY, time stamps, TCP_USER_TIMEOUT, TCP_CORK or a pacing rate, or is being repaired',
  RECEIVER: 'the receiver has kernel TLS, SO_ZEROCOPY, time stamps, SO_RCVLOWAT, SO_PEEK_OFF, a socket filter, TCP_INQ or urgent data',
  BLOCKING: 'one of the two ends is a blocking socket',
  NOT_READ: 'the receiver was not seen reading yet, as before the first message of each direction',
  SPLICES: 'the receiver reads with splice(), or its program does',
  MODE: 'the receiver is an app, and the mode accelerates toward proxies alone',
  PROGRAM: "the receiver's program was not looked at yet, or could splice and the mode is auto",
  MEMORY: 'the kernel was short of memory for sockets',
  ONE_WAY: 'the direction sent many messages without an answer, where TCP is faster',
  BUDGET: 'as much as the budget allows was waiting for the receiver',
  ORDER: 'bytes that went by TCP were still on their way, or unread',
  GONE: 'the receiver left in this moment',
  WAITING: 'one of the two ends had not joined yet: how it is used has to show first that it may',
  FIONREAD: 'the program of one of the two ends asks FIONREAD, which this kernel answers wrong for joined sockets',
  FULL: 'there was no room for the connection, or the kernel refused to join one of its ends',
}

/** By enum accel_reason, in its order, which is that of the questions. */
export const reasonWords: ReadonlyMap<number, ReasonWords> = new Map(
  Object.entries(AccelReason).map(([name, value]) => [
    value,
    { name: name.toLowerCase().replaceAll('_', ' '), sentence: sentences[name as keyof typeof AccelReason] },
  ]),
)

export const wordsOf = (reason: number): ReasonWords =>
  reasonWords.get(reason) ?? { name: `reason ${reason}`, sentence: 'this version has no words for it' }

const stops: Readonly<Record<keyof typeof AccelStop, string>> = {
  OPERATOR: 'merbridge accelerate off was said; merbridge accelerate on takes it back',
  PRESSURE: 'the node is short of memory; it comes back by itself',
  KERNEL: 'the self-test has not passed on this kernel (see: merbridge selftest)',
  LEAVING: 'the datapath is being taken away',
}

/** Why nothing is accelerated on the node, of enum accel_stop, or-ed. */
export const stopWords = (stopped: number): string[] =>
  Object.entries(AccelStop).flatMap(([name, bit]) => ((stopped & bit) === 0 ? [] : [stops[name as keyof typeof AccelStop]]))

/** The table of docs/acceleration.md. */
export const reasonTable = (): string =>
  ['| name | what it says of the message |', '|---|---|', ...[...reasonWords.values()].map(({ name, sentence }) => `| ${name} | ${sentence} |`)].join(
    '\n',
  )
