/** Where the agent and its datapath are: from the config, however broken it is. */

import { readLastGood } from '../config/lastgood.ts'
import { loadConfig, parseConfig } from '../config/load.ts'
import { defaultBpffs, defaultSocket, type MeshOptions, type StaticPod } from '../config/schema.ts'
import { MerbridgeError } from '../errors.ts'

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
  readonly problem?: { readonly error: MerbridgeError; readonly instead: 'the last good config' | 'the defaults' }
}

async function lastGood({ config, stateDir }: ConfigPlace, plugins: MeshOptions) {
  try {
    const text = await readLastGood(stateDir, config)
    return text === undefined ? undefined : parseConfig(text, config, plugins)
  } catch {
    // Unreadable for this user, or written by another version: no better than none.
    return undefined
  }
}

export async function findSettings(place: ConfigPlace, plugins: MeshOptions): Promise<Settings> {
  try {
    const { config } = await loadConfig(place.config, plugins)
    return { socket: config.control.socket, bpffs: config.attach.bpffs, pods: config.pods }
  } catch (error) {
    if (!(error instanceof MerbridgeError)) throw error
    const config = await lastGood(place, plugins)
    if (config === undefined) return { socket: defaultSocket, bpffs: defaultBpffs, pods: [], problem: { error, instead: 'the defaults' } }
    return { socket: config.control.socket, bpffs: config.attach.bpffs, pods: config.pods, problem: { error, instead: 'the last good config' } }
  }
}
