/** The one answer that does not end: GET /v1/events, one JSON object per line, until either side leaves. */
import type { ServerResponse } from 'node:http'

export const eventsPath = '/v1/events'

/** The reading side of a stream, as the agent sees it. */
export interface Stream {
  /** false: the reader is behind, and nothing was sent. What waits for it in this process is bounded. */
  readonly send: (view: object) => boolean
  readonly end: () => void
}

/** Begins to send; returns what is called once when the reader has left. Throws a MerbridgeError when it will not. */
export type Follow = (query: URLSearchParams, stream: Stream) => () => void

/** Bytes that may wait for a slow reader: a burst of some 2,000 events. */
const mostWaiting = 1 << 20
/** Milliseconds that a reader may read nothing while there is something for it. It may be a person with a pager. */
const patience = 10 * 60_000

function streamTo(response: ServerResponse): Stream {
  let behindSince: number | undefined
  return {
    send: (view) => {
      if (response.writableLength > mostWaiting) {
        behindSince ??= performance.now()
        if (performance.now() - behindSince > patience) response.destroy()
        return false
      }
      behindSince = undefined
      response.write(`${JSON.stringify(view)}\n`)
      return true
    },
    end: () => void response.end(),
  }
}

/** A refusal is thrown before anything is answered; the head of the answer says that the watch has begun. */
export function answerStream(follow: Follow, url: string, response: ServerResponse): void {
  const leave = follow(new URL(url, 'http://merbridge').searchParams, streamTo(response))
  response.on('error', () => {})
  if (response.closed) leave()
  else response.once('close', leave)
  response.writeHead(200, { 'content-type': 'application/x-ndjson', connection: 'close' }).flushHeaders()
}
