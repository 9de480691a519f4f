/** There is no answer yet, and that may change although neither plugin nor pod does: the machine was busy, or another pod has used up the time of this round. */
export class AskAgain extends Error {
  readonly afterMs: number
  /** What to do, where it is not the plugin that must be corrected for this pod. */
  readonly hint: string | undefined

  constructor(message: string, afterMs: number, hint?: string) {
    super(message)
    this.afterMs = afterMs
    this.hint = hint
  }
}
