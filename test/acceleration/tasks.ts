/** Which exchanges run where. A part of all of it tells the most; MERBRIDGE_PROGRAMS=long, as in `npm run test:full`, runs every exchange everywhere. */
import type { Exchange } from '../../core/selftest/program.ts'
import { long } from '../lab/long.ts'
import type { Task } from './comparison.ts'
import { type Family, families, type Place, places } from './places.ts'

export { long }

/** For each half. The halves count in millions of messages when it may take long. */
export const options: readonly string[] = long
  ? ['--scale', '4', '--timeout', '120', '--connections', '10000']
  : ['--part', '8', '--timeout', '30', '--connections', '500']

const placeAt = (index: number): Place => places[index % places.length] as Place

/** Of those that are not fast, each in one place. */
export const inEveryPlace = (exchanges: readonly Exchange[]): Task[] =>
  exchanges.flatMap((exchange, index) =>
    (long || exchange.fast ? places : [placeAt(index)]).map((place) => ({ exchange, place, family: 'ipv4' as const, mode: 'all' as const })),
  )

/** The fast ones, each in one place, in the other families and in mode proxies. */
export function elsewhere(exchanges: readonly Exchange[]): Task[] {
  const some = exchanges.filter(({ fast }) => long || fast)
  const others = families.filter((family) => family !== 'ipv4')
  const of = (family: Family, mode: Task['mode'], shift: number) =>
    some.flatMap((exchange, index) => (long ? places : [placeAt(index + shift)]).map((place) => ({ exchange, place, family, mode })))
  return [...others.flatMap((family, shift) => of(family, 'all', shift)), ...of('ipv4', 'proxies', 2)]
}

/** Both ends send whenever they can. */
export const duplex = (exchanges: readonly Exchange[]): Task[] =>
  exchanges
    .filter(({ name }) => /^(full-duplex|ping-pong|pipelined|stop-and-go|unread|toggle)/.test(name))
    .flatMap((exchange) => places.map((place) => ({ exchange, place, family: 'ipv4' as const, mode: 'all' as const })))
