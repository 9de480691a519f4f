/** What does not fit into `npm test` has its place in `npm run test:full`, which sets this. */
export const long = process.env.MERBRIDGE_PROGRAMS === 'long'

/** For a test's `skip`. */
export const inFull: string | false = long ? false : 'in npm run test:full'
