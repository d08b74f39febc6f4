// SPDX-License-Identifier: Apache-2.0

package image

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
)

// WriteLayout writes a layout with an image of what is below root, with the layers of on below it. onLayout is where
// those are, "" when there are none.
func WriteLayout(dir, root, lower string, on v1.Image, onLayout string) error {
	return writeLayout(dir, func(blobs string) (v1.Image, error) {
		if on == nil {
			on = empty.Image
		} else if err := linkLayers(on, onLayout+"/"+blobFolder, blobs); err != nil {
			return nil, err
		}
		layer, err := packTree(root, lower, blobs)
		if err != nil {
			return nil, err
		}
		return assemble(on, layer, "test", baseRecipe.config())
	})
}

// OpenLayout is openLayout for tests.
var OpenLayout = openLayout
