/** What the agent answers on its socket: HTTP/1.1, JSON bodies. */
import type { AccelerateView, AccelerationView } from '../acceleration/view.ts'
import type { Bound } from '../config/restart.ts'
import type { Issue, MerbridgeError } from '../errors.ts'
import type { ExplainView } from '../explain/view.ts'
import type { PodView, ReloadOutcome, StatusView } from '../views.ts'
import type { Follow } from './stream.ts'

export interface ReloadView {
  readonly outcome: ReloadOutcome
  readonly reason?: string
  readonly generation: number
}

/** What of the config in force a restart would change, and where the config is. */
export interface InForceView extends Bound {
  /** Absolute. */
  readonly path: string
  /** Where the text of the config in force is kept. */
  readonly stateDir: string
}

export interface Handlers {
  status(): Promise<StatusView>
  pods(): Promise<PodView[]>
  config(): Promise<InForceView>
  acceleration(): Promise<AccelerationView>
  /** `switch`: on or off; `pod`: NAME or NAMESPACE/NAME, absent: the node. */
  accelerate(query: URLSearchParams): Promise<AccelerateView>
  /** See core/explain/question.ts. */
  explain(query: URLSearchParams): Promise<ExplainView>
  reload(): Promise<ReloadView>
  /** Ends the agent; the datapath stays. Resolves when the agent has begun to stop. */
  stop(): Promise<void>
  /** GET /v1/events */
  readonly events: Follow
}

/** The paths and the one method that each has. */
export const routes = {
  '/v1/status': { method: 'GET', handler: 'status' },
  '/v1/pods': { method: 'GET', handler: 'pods' },
  '/v1/acceleration': { method: 'GET', handler: 'acceleration' },
  '/v1/accelerate': { method: 'POST', handler: 'accelerate' },
  '/v1/config': { method: 'GET', handler: 'config' },
  '/v1/explain': { method: 'GET', handler: 'explain' },
  '/v1/reload': { method: 'POST', handler: 'reload' },
  '/v1/stop': { method: 'POST', handler: 'stop' },
} as const satisfies Readonly<Record<string, { readonly method: 'GET' | 'POST'; readonly handler: keyof Handlers }>>

export type ControlPath = keyof typeof routes

/** An error as JSON: in answers of the agent, and of the command line with --output json. */
export interface ErrorView {
  readonly error: { readonly code: string; readonly message: string; readonly hint: string; readonly issues?: readonly Issue[] }
}

export function errorView(error: MerbridgeError): ErrorView {
  const { code, message, hint, found } = error
  return { error: { code, message, hint, ...(found === undefined ? {} : { issues: found.issues }) } }
}
