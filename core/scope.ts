/** A handle for as long as one piece of work. The `using` declaration would say it shorter, but Node 22 does not know it. */

export function using<H extends Disposable, R>(handle: H, work: (handle: H) => R): R {
  try {
    return work(handle)
  } finally {
    handle[Symbol.dispose]()
  }
}

export async function usingAsync<H extends Disposable | AsyncDisposable, R>(handle: H, work: (handle: H) => Promise<R>): Promise<R> {
  try {
    return await work(handle)
  } finally {
    if (Symbol.asyncDispose in handle) await handle[Symbol.asyncDispose]()
    else handle[Symbol.dispose]()
  }
}
