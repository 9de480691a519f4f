/** What every command has. */
import type { Command } from 'commander'
import type { Outcome, Output } from './outcome.ts'

export interface Common {
  readonly config: string
  readonly stateDir: string
  readonly pluginDir: readonly string[]
  readonly output: Output
}

/** Makes a command with the options of every command. */
export type MakeCommand = (name: string, description: string, help: string) => Command

/** Takes what a command comes to. */
export type Finish = (outcome: Outcome) => void

export const example = (...lines: readonly string[]) => `\nExample:\n${lines.map((line) => `  $ ${line}`).join('\n')}`
