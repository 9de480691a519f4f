/**
 * The catalogue of errors. `code` is stable and documented in docs/errors.md; `hint` is the operator's next step. Libraries throw these; only
 * core/main.ts prints them and chooses the exit code.
 */
export type ErrorCode =
  | 'CONFIG_INVALID' // the text is not a valid configuration; `issues` has every place
  | 'CONFIG_UNREADABLE' // no such file, a directory, no permission, too large
  | 'CONFIG_RESTART' // the change needs a restart of the agent
  | 'PLUGIN_FAILED' // a plugin threw or returned something that is not an Interception
  | 'PLUGIN_DENIED' // a plugin's file is not in an allowed directory, or others could change it
  | 'PLUGIN_INVALID' // a plugin's file cannot be loaded: syntax, imports, what it exports
  | 'COMPILE_FAILED' // an Interception does not fit: a set, a rule or a limit is named
  | 'KERNEL_UNSUPPORTED' // no BTF, no cgroup v2, a hook is missing
  | 'NOT_PERMITTED' // not root, or a capability is missing
  | 'BPFFS_UNUSABLE'
  | 'DATAPATH_FOREIGN' // maps or pins that this build does not recognise
  | 'DATAPATH_FAILED' // the kernel refused a map or link operation
  | 'AGENT_RUNNING' // a second agent
  | 'AGENT_NOT_RUNNING'
  | 'AGENT_STARTING' // it answers, but has no datapath yet
  | 'DETACH_REFUSED' // promise 5: pods would bypass the mesh
  | 'POD_UNKNOWN'
  | 'POD_NOT_ENROLLED' // the pod is listed, and the datapath leaves it alone
  | 'MONITOR_BUSY' // as many watch already as may
  | 'AGENT_FAILED' // the agent runs, but its control socket gives no usable answer
  | 'USAGE'

/** One thing that is wrong in a file, at its place. */
export interface Issue {
  /** Both count from 1. */
  readonly line: number
  readonly column: number
  /** "workloads.static[0].netns"; empty: the file as a whole */
  readonly path: string
  readonly message: string
  readonly hint: string
}

export interface Issues {
  /** In order of position. */
  readonly issues: readonly Issue[]
  /** The issues as text for a terminal, each with its line of the file, a caret and the way out. */
  readonly detail: string
}

export class MerbridgeError extends Error {
  override readonly name = 'MerbridgeError'
  readonly code: ErrorCode
  /** What to do next, one sentence. */
  readonly hint: string
  /** CONFIG_INVALID only. */
  readonly found?: Issues

  constructor(code: ErrorCode, message: string, hint: string, cause?: unknown, found?: Issues) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.hint = hint
    if (found !== undefined) this.found = found
  }
}
