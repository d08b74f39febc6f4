// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 holds the API types of the group checkpoint.io and every key, phase and reason that several parts of
// Cryopod share. It imports nothing of Cryopod.
//
// +kubebuilder:object:generate=true
// +groupName=checkpoint.io
package v1alpha1
