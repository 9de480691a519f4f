/** Whether a plugin is pure: nothing that it could look at but its arguments, and arguments that mean the same give the same. */

/** What a plugin could look at besides its pod. */
const outside: readonly (readonly [object: object, key: string])[] = [
  ...['Date', 'fetch', 'setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask', 'WebSocket'].map((key) => [globalThis, key] as const),
  [Date, 'now'],
  [Math, 'random'],
  [performance, 'now'],
  [crypto, 'getRandomValues'],
  [crypto, 'randomUUID'],
  [process, 'env'],
  [process, 'hrtime'],
  [process, 'cwd'],
]

/** The library behind the kit's `yaml` asks the environment whether it shall log. That is none of the plugin's doing. */
const isKits = (stack = ''): boolean => /[\\/]node_modules[\\/]yaml[\\/]/.test(stack.split('\n')[2] ?? '')

/** Runs the work while everything outside throws. The names of what it looked at all the same. */
export function watched<T>(work: () => T): { readonly result: T; readonly looked: readonly string[] } {
  const looked = new Set<string>()
  const saved = outside.flatMap(([object, key]) => {
    const descriptor = Object.getOwnPropertyDescriptor(object, key)
    if (descriptor !== undefined && !descriptor.configurable) return []
    const get = () => {
      if (!isKits(new Error('who looks').stack)) looked.add(key)
      return descriptor?.get === undefined ? (descriptor?.value ?? Reflect.get(Object.getPrototypeOf(object), key)) : descriptor.get.call(object)
    }
    Object.defineProperty(object, key, { get, configurable: true })
    return [() => (descriptor === undefined ? Reflect.deleteProperty(object, key) : Object.defineProperty(object, key, descriptor))]
  })
  try {
    return { result: work(), looked: [...looked] }
  } finally {
    for (const restore of saved) restore()
  }
}

/** The same value with all keys of its objects the other way round. */
export function reordered<T>(value: T): T {
  if (Array.isArray(value)) return value.map(reordered) as T
  if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([key, part]) => [key, reordered(part)]),
  ) as T
}
