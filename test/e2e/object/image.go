// SPDX-License-Identifier: Apache-2.0

// Package object makes the Kubernetes objects of the workloads that the end-to-end tests, the demo and the benchmark move.
package object

// Images are the names by which a cluster's nodes pull the workloads' images.
type Images struct {
	Stepper, Python, NodeJS, Java, Redis, Nginx string
}
