import { osmMesh } from '../meshes/osm/mesh.ts'
import { randomSuite } from '../parity/random/suite.ts'

randomSuite(osmMesh)
