/** Lists of complaints that a pod's owner can read to the end. */
const most = 8

/** The first ones, and how many more there are. */
export function bounded(complaints: readonly string[]): readonly string[] {
  return complaints.length <= most ? complaints : [...complaints.slice(0, most - 1), `and ${complaints.length - most + 1} more`]
}
