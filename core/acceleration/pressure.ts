/**
 * Is the node short of memory? Bytes that wait for a receiver are memory of the kernel; under pressure acceleration gives it back. The figures come
 * from PSI (/proc/pressure/memory); where the kernel has none, from the memory events of the topmost cgroups; and always from TCP's own account.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Levels {
  /** Percent of the last ten seconds in which some task waited for memory: from here on it is pressure, */
  readonly stalled: number
  /** and below this it is calm. */
  readonly calm: number
  /** How often a second cgroups may run into their memory.max. */
  readonly hits: number
  /** Milliseconds of calm after which it is over. */
  readonly calmFor: number
}

export const defaultLevels: Levels = { stalled: 10, calm: 5, hits: 100, calmFor: 30_000 }

interface Figure {
  readonly pressed: boolean
  readonly calm: boolean
  readonly text: string
}

export interface Pressure {
  readonly pressed: boolean
  /** The figure that says so, or that has become calm. */
  readonly figure: string
}

/** More than a node has directly below the root of its cgroups. */
const mostCgroups = 64

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined // this kernel, or this container, does not have it
  }
}

function directoriesIn(path: string): string[] {
  try {
    return readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => join(path, name))
  } catch {
    return []
  }
}

const wordAfter = (text: string, word: string): number | undefined => {
  const [, number] = new RegExp(`^${word} (\\d+)$`, 'm').exec(text) ?? []
  return number === undefined ? undefined : Number(number)
}

interface Events {
  readonly at: number
  readonly hits: number
  readonly kills: number
}

export class PressureWatch {
  readonly #root: string
  readonly #levels: Levels
  #pressed: boolean
  #figure = 'nothing on this node says how short of memory it is'
  #calmSince: number | undefined
  #events: Events | undefined

  /** `pressed`: an agent before this one found it so. `root`: where /proc and /sys are. */
  constructor(pressed = false, levels = defaultLevels, root = '/') {
    this.#pressed = pressed
    this.#levels = levels
    this.#root = root
  }

  /** `now`: milliseconds of a clock that only goes forward. To be called about once a second. */
  look(now: number): Pressure {
    const stalls = this.#stalls()
    const figures = [stalls ?? this.#cgroupEvents(now), this.#sockets()].filter((figure) => figure !== undefined)
    const pressing = figures.find(({ pressed }) => pressed)
    const restless = figures.find(({ calm }) => !calm)
    const shown = pressing ?? restless ?? figures[0]
    if (shown !== undefined) this.#figure = shown.text
    if (restless === undefined) this.#calmSince ??= now
    else this.#calmSince = undefined
    const over = figures.length === 0 || (this.#calmSince !== undefined && now - this.#calmSince >= this.#levels.calmFor)
    this.#pressed = pressing !== undefined || (this.#pressed && !over)
    return { pressed: this.#pressed, figure: this.#figure }
  }

  /** undefined: no PSI. */
  #stalls(): Figure | undefined {
    const [, percent] = /^some avg10=(\d+\.\d+) /m.exec(textOf(join(this.#root, 'proc/pressure/memory')) ?? '') ?? []
    if (percent === undefined) return undefined
    const { stalled, calm } = this.#levels
    const value = Number(percent)
    const text = `tasks waited for memory in ${percent} % of the last 10 s (/proc/pressure/memory; too much from ${stalled} %, calm below ${calm} %)`
    return { pressed: value >= stalled, calm: value < calm, text }
  }

  /** They count for everything below, so the topmost are enough. undefined: no cgroup v2 with the memory controller. */
  #cgroupEvents(now: number): Figure | undefined {
    const mounts = ['sys/fs/cgroup', 'sys/fs/cgroup/unified'].map((path) => join(this.#root, path))
    const texts = mounts.flatMap((mount) => directoriesIn(mount).slice(0, mostCgroups)).map((directory) => textOf(join(directory, 'memory.events')))
    const counted = texts.filter((text) => text !== undefined)
    if (counted.length === 0) return undefined
    const total = (word: string) => counted.reduce((sum, text) => sum + (wordAfter(text, word) ?? 0), 0)
    const before = this.#events
    const events = { at: now, hits: total('max'), kills: total('oom') }
    this.#events = events
    const seconds = before === undefined ? 0 : Math.max((now - before.at) / 1000, 0.001)
    const rate = before === undefined ? 0 : Math.max(0, events.hits - before.hits) / seconds
    const kills = before === undefined ? 0 : Math.max(0, events.kills - before.kills)
    const pressed = kills > 0 || rate >= this.#levels.hits
    const text = `cgroups were out of memory ${kills} times and at their memory.max ${Math.round(rate)} times a second (memory.events; too much from 1, or ${this.#levels.hits} a second)`
    return { pressed, calm: !pressed, text }
  }

  /** As the kernel sees it: from the second number of tcp_mem on TCP is under pressure, below the first it is not. */
  #sockets(): Figure | undefined {
    const [, used] = /^TCP: .*\bmem (\d+)/m.exec(textOf(join(this.#root, 'proc/net/sockstat')) ?? '') ?? []
    const [low, pressure] = (textOf(join(this.#root, 'proc/sys/net/ipv4/tcp_mem')) ?? '').trim().split(/\s+/).map(Number)
    if (used === undefined || low === undefined || pressure === undefined || !(pressure > 0)) return undefined
    const text = `TCP holds ${used} pages (/proc/net/sockstat; too much from ${pressure}, calm below ${low}: net.ipv4.tcp_mem)`
    return { pressed: Number(used) >= pressure, calm: Number(used) < low, text }
  }
}
