/** Where the agent and its datapath are: from the config, however broken it is. */
import { existsSync } from 'node:fs'
import { readDocument } from '../config/document.ts'
import { readLastGood } from '../config/lastgood.ts'
import { loadConfig, parseConfig } from '../config/load.ts'
import { fieldsOf, withoutLoading } from '../config/resolve.ts'
import { type Config, defaultBpffs, defaultSocket, type StaticPod } from '../config/schema.ts'
import { readSource } from '../config/source.ts'
import { MerbridgeError } from '../errors.ts'
import type { PluginSource } from '../plugins.ts'

export interface ConfigPlace {
  /** Absolute. */
  readonly config: string
  readonly stateDir: string
}

export interface Settings {
  readonly socket: string
  readonly bpffs: string
  readonly pods: readonly StaticPod[]
  /** The config could not be used, and what was used in its place. */
  readonly problem?: { readonly error: MerbridgeError; readonly instead: string }
}

async function lastGood({ config, stateDir }: ConfigPlace, plugins: PluginSource): Promise<Config | undefined> {
  try {
    const text = await readLastGood(stateDir, config)
    return text === undefined ? undefined : (await parseConfig(text, config, plugins)).config
  } catch {
    // Unreadable for this user, or written by another version: no better than none.
    return undefined
  }
}

interface Places {
  readonly socket?: string
  readonly bpffs?: string
}

const placesOf = ({ control, attach }: Config): Places => ({ socket: control.socket, bpffs: attach.bpffs })

/** What a config that is not valid says of the two places, if that much of it can be read. */
async function placesInBroken(path: string): Promise<Places> {
  try {
    const value = fieldsOf(readDocument(await readSource(path)).value)
    const { socket } = fieldsOf(value.control)
    const { bpffs } = fieldsOf(value.attach)
    const isPath = (text: unknown): text is string => typeof text === 'string' && text.startsWith('/')
    return { ...(isPath(socket) ? { socket } : {}), ...(isPath(bpffs) ? { bpffs } : {}) }
  } catch {
    return {}
  }
}

/** The running agent may have another socket than the file names now, because a change of it is refused: the first one that is there. */
function choose(candidates: readonly (Places | undefined)[]): { readonly socket: string; readonly bpffs: string } {
  const sockets = candidates.flatMap((places) => places?.socket ?? [])
  const directories = candidates.flatMap((places) => places?.bpffs ?? [])
  return {
    socket: sockets.find((path) => existsSync(path)) ?? sockets[0] ?? defaultSocket,
    bpffs: directories.find((path) => existsSync(path)) ?? directories[0] ?? defaultBpffs,
  }
}

/** Loads no plugin of somebody else's: a command that asks the agent, or takes the datapath away, must work whatever has become of one. */
export async function findSettings(place: ConfigPlace, builtIn: PluginSource['builtIn']): Promise<Settings> {
  const plugins = withoutLoading(builtIn)
  const good = await lastGood(place, plugins)
  const inForce = good && placesOf(good)
  try {
    const { config } = await loadConfig(place.config, plugins)
    return { ...choose([placesOf(config), inForce]), pods: config.pods }
  } catch (error) {
    if (!(error instanceof MerbridgeError)) throw error
    const instead = good === undefined ? 'what could be read of it and the defaults' : 'the last good config'
    return { ...choose([inForce, await placesInBroken(place.config)]), pods: good?.pods ?? [], problem: { error, instead } }
  }
}
