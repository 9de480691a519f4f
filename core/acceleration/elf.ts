/**
 * Whether an executable file can read a socket with splice(), or asks with FIONREAD what waits there. The file belongs to a pod, so nothing in it is believed: every offset is checked, every table is
 * bounded, and what is not understood is not judged. Only files of this machine's kind: ELF, 64 bits, little-endian.
 */

import { setImmediate as immediate } from 'node:timers/promises'

/** What a file says of itself. */
export interface Findings {
  /** It has something that splices: an import, or in a program that makes system calls itself, a call's number. */
  readonly splices: boolean
  /** It runs programs that may: an interpreter with os.splice, or with system calls by number; a loader. */
  readonly runsScripts: boolean
  /** It makes system calls by number, and this one's number is in it. */
  readonly mayCall: boolean
  /** It calls ioctl, and has the number of FIONREAD. */
  readonly asks: boolean
}

/** Reads bytes of the file; fewer at its end. */
export type ReadAt = (offset: number, length: number) => Promise<Buffer>

/** Not to be judged, and why. */
export class Unreadable extends Error {}

export const bounds = {
  sections: 512,
  names: 256 * 1024,
  symbols: 4 * 1024 * 1024,
  strings: 16 * 1024 * 1024,
  /** Executable bytes of one file that are looked through. */
  code: 96 * 1024 * 1024,
  chunk: 256 * 1024,
} as const

/** io_uring_* set up a ring through which a socket may be spliced. */
const calls = ['splice', 'tee', 'vmsplice', 'io_uring_queue_init', 'io_uring_queue_init_params', 'io_uring_queue_init_mem', 'io_uring_setup']
const interpreters = ['Py_BytesMain', 'Py_Main', 'perl_run', 'ruby_run_node']

const machines = { x64: 62, arm64: 183 } as const
type Machine = keyof typeof machines

/**
 * The instructions that load the number of splice, tee, vmsplice or io_uring_setup where the system call looks for it, or where syscall(3) does. That of
 * io_uring_setup is no sign there: libuv has it, for files.
 */
function loads(machine: Machine, kind: 'number' | 'argument'): Buffer[] {
  const rings = kind === 'number' ? [425] : []
  if (machine === 'x64') {
    const opcode = kind === 'number' ? 0xb8 : 0xbf // mov eax, NUMBER; mov edi, NUMBER: of syscall(3)
    return [275, 276, 278, ...rings].map((number) => Buffer.from([opcode, number & 0xff, number >> 8, 0, 0]))
  }
  const register = kind === 'number' ? 8 : 0
  return [76, 77, 75, ...rings].flatMap((number) =>
    [0xd2800000, 0x52800000].map((movz) => {
      const bytes = Buffer.alloc(4)
      bytes.writeUInt32LE((movz | (number << 5) | register) >>> 0)
      return bytes
    }),
  )
}

interface Section {
  readonly name: number
  readonly type: number
  readonly executable: boolean
  readonly offset: number
  readonly size: number
  readonly link: number
}

interface Header {
  readonly machine: Machine
  readonly sections: readonly Section[]
  readonly names: Buffer
}

const SHT_DYNSYM = 11
const SHT_NOBITS = 8
const SHF_EXECINSTR = 4
const sectionBytes = 64
const symbolBytes = 24
const symbolsAtATime = 20_000

/** Numbers of a file beyond 2^53 are not those of a real one. */
function number(bytes: Buffer, offset: number): number {
  const value = bytes.readBigUInt64LE(offset)
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new Unreadable('an offset is beyond every file')
  return Number(value)
}

async function exactly(readAt: ReadAt, offset: number, length: number, most: number, what: string): Promise<Buffer> {
  if (length > most) throw new Unreadable(`${what}: ${length} bytes are too many`)
  const bytes = await readAt(offset, length)
  if (bytes.length < length) throw new Unreadable(`${what}: the file ends before it`)
  return bytes
}

async function readHeader(readAt: ReadAt): Promise<Header> {
  const head = await exactly(readAt, 0, 64, 64, 'the header')
  if (head.readUInt32BE(0) !== 0x7f454c46) throw new Unreadable('not ELF')
  if (head[4] !== 2 || head[5] !== 1) throw new Unreadable('not of 64 bits, little-endian')
  const machine = (Object.keys(machines) as Machine[]).find((name) => machines[name] === head.readUInt16LE(18))
  if (machine === undefined || machine !== process.arch) throw new Unreadable('not of this machine')
  const [size, count, names] = [head.readUInt16LE(58), head.readUInt16LE(60), head.readUInt16LE(62)]
  if (count === 0) throw new Unreadable('it has no sections')
  if (size !== sectionBytes || count > bounds.sections || names >= count) throw new Unreadable('its sections cannot be told')
  const table = await exactly(readAt, number(head, 40), size * count, size * bounds.sections, 'the sections')
  const sections = Array.from({ length: count }, (_, index): Section => {
    const at = index * size
    return {
      name: table.readUInt32LE(at),
      type: table.readUInt32LE(at + 4),
      executable: (table.readUInt32LE(at + 8) & SHF_EXECINSTR) !== 0,
      offset: number(table, at + 24),
      size: number(table, at + 32),
      link: table.readUInt32LE(at + 40),
    }
  })
  const own = sections[names] as Section
  return { machine, sections, names: await exactly(readAt, own.offset, own.size, bounds.names, 'the names of sections') }
}

const longestName = 32

/** Looked at no further than a name that we know is long: strings without an end would be walked again for every symbol. */
function nameAt(strings: Buffer, offset: number): string {
  const name = strings.toString('latin1', Math.min(offset, strings.length), Math.min(offset + longestName, strings.length))
  const end = name.indexOf('\0')
  return end < 0 ? name : name.slice(0, end)
}

interface Symbols {
  readonly imported: ReadonlySet<string>
  readonly defined: ReadonlySet<string>
}

/** The first two characters tell most names apart from those that are wanted. */
const beginningOf = (first = 0, second = 0): number => (first << 8) | second

/**
 * Those of `wanted` that the dynamic linker sees. A table may have 170,000 entries, so a name is only made of what begins like a wanted one, and other work gets
 * its turn.
 */
async function symbolsOf(table: Buffer, strings: Buffer, wanted: ReadonlySet<string>): Promise<Symbols> {
  const beginnings = new Set([...wanted].map((name) => beginningOf(name.charCodeAt(0), name.charCodeAt(1))))
  const [imported, defined] = [new Set<string>(), new Set<string>()]
  for (let at = symbolBytes; at + symbolBytes <= table.length; at += symbolBytes) {
    if (at % (symbolBytes * symbolsAtATime) === 0) await immediate()
    const start = table.readUInt32LE(at)
    if (!beginnings.has(beginningOf(strings[start], strings[start + 1]))) continue
    const name = nameAt(strings, start)
    if (wanted.has(name)) (table.readUInt16LE(at + 6) === 0 ? imported : defined).add(name)
  }
  return { imported, defined }
}

const wanted = new Set([...calls, ...interpreters, 'syscall', 'ioctl', '_rtld_global'])

async function dynamicSymbols(readAt: ReadAt, sections: readonly Section[]): Promise<Symbols | undefined> {
  const section = sections.find(({ type }) => type === SHT_DYNSYM)
  if (section === undefined) return undefined
  const linked = sections[section.link]
  if (linked === undefined) throw new Unreadable('its symbols have no names')
  const table = await exactly(readAt, section.offset, section.size, bounds.symbols, 'the symbols')
  const strings = await exactly(readAt, linked.offset, linked.size, bounds.strings, 'the names of symbols')
  return symbolsOf(table, strings, wanted)
}

type Search = (bytes: Buffer) => boolean

const anyOf =
  (patterns: readonly Buffer[]): Search =>
  (bytes) =>
    patterns.some((pattern) => bytes.includes(pattern))

const FIONREAD = 0x541b

/** The number of FIONREAD goes into a register, whichever. */
function loadsFionread(machine: Machine): Search {
  if (machine === 'arm64') {
    const registers = Array.from({ length: 31 }, (_, register) => register)
    return anyOf(
      registers.map((register) => {
        const bytes = Buffer.alloc(4)
        bytes.writeUInt32LE((0x52800000 | (FIONREAD << 5) | register) >>> 0)
        return bytes
      }),
    )
  }
  const immediate = Buffer.from([FIONREAD & 0xff, FIONREAD >> 8, 0, 0])
  return (bytes) => {
    for (let at = bytes.indexOf(immediate, 1); at > 0; at = bytes.indexOf(immediate, at + 1)) if (((bytes[at - 1] ?? 0) & 0xf8) === 0xb8) return true
    return false
  }
}

/** Longer than any pattern. */
const overlap = 8

/** Which of the searches find something in the executable sections. In pieces, so that nothing else waits for long. */
async function findInCode(readAt: ReadAt, sections: readonly Section[], searches: readonly Search[]): Promise<boolean[]> {
  const found = searches.map(() => false)
  if (searches.length === 0) return found
  const code = sections.filter(({ executable, type }) => executable && type !== SHT_NOBITS)
  const total = code.reduce((sum, { size }) => sum + size, 0)
  if (total > bounds.code) throw new Unreadable(`${total} bytes of code are too many`)
  for (const { offset, size } of code) {
    for (let done = 0; done < size && found.includes(false); done += bounds.chunk) {
      const bytes = await readAt(offset + done, Math.min(bounds.chunk + overlap, size - done))
      if (bytes.length === 0) throw new Unreadable('the file ends within its code')
      for (const [index, search] of searches.entries()) found[index] ||= search(bytes)
    }
  }
  return found
}

/** Go's own linker: its programs make system calls themselves, with libc or without. */
const isGo = ({ sections, names }: Header): boolean =>
  sections.some(({ name }) => ['.go.buildinfo', '.note.go.buildid', '.gopclntab'].includes(nameAt(names, name)))

const isInterp = ({ sections, names }: Header): boolean => sections.some(({ name }) => nameAt(names, name) === '.interp')

/** `main`: it is the program, not a library of it. Throws Unreadable. */
export async function examine(readAt: ReadAt, main: boolean): Promise<Findings> {
  const header = await readHeader(readAt)
  const symbols = await dynamicSymbols(readAt, header.sections)
  const { imported = new Set<string>(), defined = new Set<string>() } = symbols ?? {}
  // Who starts a program through its loader has the loader as the executable.
  const isLoader = main && (defined.has('_rtld_global') || defined.has('splice'))
  const runsScripts = isLoader || interpreters.some((name) => defined.has(name))
  // libc defines what others import; Python imports splice for its scripts, and does not use it by itself.
  const imports = calls.some((name) => imported.has(name) && !defined.has(name)) && !runsScripts
  const callsItself = isGo(header) || (main && !isInterp(header))
  const never: Search = () => false
  const number = callsItself ? anyOf(loads(header.machine, 'number')) : never
  const argument = imported.has('syscall') && !runsScripts && !callsItself ? anyOf(loads(header.machine, 'argument')) : never
  const asked = callsItself || imported.has('ioctl') ? loadsFionread(header.machine) : never
  const searches = [number, argument, asked]
  const needed = searches.filter((search) => search !== never)
  const results = await findInCode(readAt, header.sections, needed)
  const [own = false, mayCall = false, asks = false] = searches.map((search) => search !== never && results[needed.indexOf(search)] === true)
  return { splices: imports || own, runsScripts, mayCall, asks }
}
