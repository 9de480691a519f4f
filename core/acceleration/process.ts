/**
 * What a process has mapped, as files that are opened and nothing else. A process of a pod may end, exec, or map whatever it likes meanwhile, so: /proc/PID/map_files
 * leads to the mapped file itself, without a path to be walked; it is opened for reading only when it is a regular file; and the process is asked again who it is.
 */
import { constants } from 'node:fs'
import { type FileHandle, open, readdir } from 'node:fs/promises'

/** As struct program_key has it. */
export interface FileId {
  readonly inode: bigint
  /** major << 20 | minor */
  readonly device: number
}

export interface Mapping extends FileId {
  /** The name in map_files. */
  readonly range: string
}

/** Not in node:fs */
const O_PATH = 0o10000000
const O_CLOEXEC = 0o2000000

const mostMapsBytes = 4 * 1024 * 1024

/** Lines of /proc/PID/maps of files that have executable pages: each file once, the executable first where it is among them. */
export function executableMappings(maps: string): Mapping[] {
  const found = new Map<string, Mapping>()
  for (const line of maps.split('\n')) {
    const [, from, to, flags, major, minor, inode] = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ ([0-9a-f]+):([0-9a-f]+) (\d+)/.exec(line) ?? []
    if (from === undefined || to === undefined || inode === undefined || inode === '0' || flags?.[2] !== 'x') continue
    const device = Number.parseInt(major ?? '', 16) * 0x100000 + Number.parseInt(minor ?? '', 16)
    const id = `${device} ${inode}`
    const range = [from, to].map((address) => address.replace(/^0+(?=.)/, '')).join('-') // map_files has no leading zeros
    if (!found.has(id)) found.set(id, { inode: BigInt(inode), device, range })
  }
  return [...found.values()]
}

/** Ticks of 10 ms since the node started; the name in parentheses may have anything in it. */
export function startTicks(stat: string): number | undefined {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const ticks = Number(fields[19])
  return fields.length > 19 && Number.isSafeInteger(ticks) ? ticks : undefined
}

const nanosecondsPerTick = 10_000_000n

/** The process that is meant, and not a later one with its number. `started`: nanoseconds of CLOCK_BOOTTIME. */
export async function isSameProcess(pid: number, started: bigint): Promise<boolean> {
  try {
    const ticks = startTicks(await readBounded(`/proc/${pid}/stat`, 4096))
    return ticks !== undefined && BigInt(ticks) === started / nanosecondsPerTick
  } catch {
    return false
  }
}

async function readBounded(path: string, most: number): Promise<string> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const parts: Buffer[] = []
    let have = 0
    while (have < most) {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(65536), 0, 65536, null)
      if (bytesRead === 0) break
      parts.push(buffer.subarray(0, bytesRead))
      have += bytesRead
    }
    return Buffer.concat(parts).toString('latin1')
  } finally {
    await file.close()
  }
}

export const mappedFiles = async (pid: number): Promise<Mapping[]> => executableMappings(await readBounded(`/proc/${pid}/maps`, mostMapsBytes))

export interface Runner {
  readonly pid: number
  /** Nanoseconds of CLOCK_BOOTTIME, to the tick */
  readonly started: bigint
}

/** More processes than a node has; each costs a fraction of a millisecond. */
const mostProcesses = 32_768

/** Some process that runs the program now; undefined: none does. */
export async function runnerOf({ inode, device }: FileId): Promise<Runner | undefined> {
  const pids = (await readdir('/proc')).map(Number).filter((pid) => pid > 0)
  for (const pid of pids.slice(0, mostProcesses)) {
    try {
      if (!(await mappedFiles(pid)).some((file) => file.inode === inode && file.device === device)) continue
      const ticks = startTicks(await readBounded(`/proc/${pid}/stat`, 4096))
      if (ticks !== undefined) return { pid, started: BigInt(ticks) * nanosecondsPerTick }
    } catch {
      // It has ended.
    }
  }
  return undefined
}

/** undefined: it is no regular file. Nothing but a regular file is opened: to open a device or a pipe may do something. */
export async function openMapped(pid: number, { range }: Mapping): Promise<FileHandle | undefined> {
  const place = await open(`/proc/${pid}/map_files/${range}`, O_PATH | O_CLOEXEC)
  try {
    if (!(await place.stat()).isFile()) return undefined
    return await open(`/proc/self/fd/${place.fd}`, constants.O_RDONLY | constants.O_NONBLOCK)
  } finally {
    await place.close()
  }
}

export async function readAt(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length)
  let have = 0
  while (have < length) {
    const { bytesRead } = await file.read(bytes, have, length - have, offset + have)
    if (bytesRead === 0) break
    have += bytesRead
  }
  return bytes.subarray(0, have)
}
