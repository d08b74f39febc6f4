// SPDX-License-Identifier: Apache-2.0

// Package imageindex packs which images and layers a node has into few bytes: a NodeProfile has them, and there is one for every node. Digests are cut
// to what tells them apart within a cluster, sizes are kept to within 5 %. Two that are taken for each other, about one layer in ten
// thousand on a node of 2,000, make a prediction of how long a pull takes wrong, and nothing else.
package imageindex
