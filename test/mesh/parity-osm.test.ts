import { osmMesh } from '../meshes/osm/mesh.ts'
import { meshSuite } from '../parity/suite.ts'

meshSuite(osmMesh)
