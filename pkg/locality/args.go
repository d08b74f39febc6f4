// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// ArgsKind is the kind of the plugin's args, in the API version v1alpha1.GroupVersion.
const ArgsKind = Name + "Args"

// CPUFeaturePolicy tells which CPU a checkpoint may be restored on.
type CPUFeaturePolicy string

const (
	// CPUFeaturesSuperset keeps a restoring pod off nodes whose CPU lacks any feature that the source's CPU offers.
	CPUFeaturesSuperset CPUFeaturePolicy = "Superset"
	// CPUFeaturesCRIU does so for features that CRIU compares when it is told to (--cpu-cap=fpu,ins): fewer, and none that only kernels use.
	CPUFeaturesCRIU CPUFeaturePolicy = "CRIU"
	// CPUFeaturesIgnore leaves CPU features out of account, for clusters whose CPUs differ in features that no workload uses.
	CPUFeaturesIgnore CPUFeaturePolicy = "Ignore"
)

// KernelPolicy tells which kernel a checkpoint may be restored on.
type KernelPolicy string

const (
	// KernelNotOlder keeps a restoring pod off nodes whose kernel is older (by its first two numbers) than the source's.
	KernelNotOlder KernelPolicy = "NotOlder"
	// KernelIgnore leaves the kernel out of account.
	KernelIgnore KernelPolicy = "Ignore"
)

// What the args are where the configuration does not say.
const (
	DefaultRestorePatience = time.Minute
	DefaultCPUFeatures     = CPUFeaturesSuperset
	DefaultKernel          = KernelNotOlder
)

// maxRestorePatience bounds RestorePatience: a pod that waits longer is worse off than with a cold start.
const maxRestorePatience = time.Hour

// CheckpointLocalityArgs configures the plugin. Its weight is the scheduler profile's business.
type CheckpointLocalityArgs struct {
	metav1.TypeMeta `json:",inline"`

	// RestorePatience is how long a restoring pod is kept off nodes that would otherwise take it but cannot restore it,
	// counted from the first such refusal. After it the pod may go anywhere, where it starts cold. 0s never refuses a node and
	// only scores those lower that cannot restore. Default DefaultRestorePatience, at most one hour.
	RestorePatience *metav1.Duration `json:"restorePatience,omitempty"`

	// CPUFeatures tells which CPU a checkpoint may be restored on. Default DefaultCPUFeatures.
	CPUFeatures CPUFeaturePolicy `json:"cpuFeatures,omitempty"`

	// Kernel tells which kernel a checkpoint may be restored on. Default DefaultKernel.
	Kernel KernelPolicy `json:"kernel,omitempty"`

	// Model are the constants by which the time until a pod runs is predicted.
	Model Model `json:"model,omitempty"`
}

// DecodeArgs reads the args as the scheduler hands them to an out-of-tree plugin: nil or empty for none, else a *runtime.Unknown
// with JSON or YAML. An unknown, repeated or wrongly spelled field is an error that names it, and so is a value out of range.
// The result has no field unset.
func DecodeArgs(obj runtime.Object) (CheckpointLocalityArgs, error) {
	var args CheckpointLocalityArgs
	if obj != nil {
		unknown, ok := obj.(*runtime.Unknown)
		if !ok {
			return args, fmt.Errorf("decoding %s: want *runtime.Unknown, got %T", ArgsKind, obj)
		}
		if err := decodeStrictly(unknown.Raw, &args); err != nil {
			return args, fmt.Errorf("decoding %s: %w", ArgsKind, err)
		}
	}
	args.setDefaults()
	if err := args.validate().ToAggregate(); err != nil {
		return args, fmt.Errorf("validating %s: %w", ArgsKind, err)
	}
	return args, nil
}

func decodeStrictly(raw []byte, into *CheckpointLocalityArgs) error {
	if len(raw) == 0 {
		return nil
	}
	// JSON is YAML too, so that one path serves both content types.
	data, err := yaml.YAMLToJSONStrict(raw)
	if err != nil {
		return err
	}
	strict, err := json.UnmarshalStrict(data, into)
	if err != nil {
		if path := culprit(data); path != "" {
			return fmt.Errorf("%s: %w", path, err)
		}
		return err
	}
	return errors.Join(strict...)
}

func (a *CheckpointLocalityArgs) setDefaults() {
	if a.APIVersion == "" {
		a.APIVersion = v1alpha1.GroupVersion.String()
	}
	if a.Kind == "" {
		a.Kind = ArgsKind
	}
	if a.RestorePatience == nil {
		a.RestorePatience = &metav1.Duration{Duration: DefaultRestorePatience}
	}
	if a.CPUFeatures == "" {
		a.CPUFeatures = DefaultCPUFeatures
	}
	if a.Kernel == "" {
		a.Kernel = DefaultKernel
	}
	a.Model.setDefaults()
}

func (a *CheckpointLocalityArgs) validate() field.ErrorList {
	var errs field.ErrorList
	if want := v1alpha1.GroupVersion.String(); a.APIVersion != want {
		errs = append(errs, field.NotSupported(field.NewPath("apiVersion"), a.APIVersion, []string{want}))
	}
	if a.Kind != ArgsKind {
		errs = append(errs, field.NotSupported(field.NewPath("kind"), a.Kind, []string{ArgsKind}))
	}
	if d := a.RestorePatience.Duration; d < 0 || d > maxRestorePatience {
		errs = append(errs, field.Invalid(field.NewPath("restorePatience"), d.String(),
			fmt.Sprintf("must be from 0s to %s", maxRestorePatience)))
	}
	switch a.CPUFeatures {
	case CPUFeaturesSuperset, CPUFeaturesCRIU, CPUFeaturesIgnore:
	default:
		errs = append(errs, field.NotSupported(field.NewPath("cpuFeatures"), a.CPUFeatures,
			[]CPUFeaturePolicy{CPUFeaturesSuperset, CPUFeaturesCRIU, CPUFeaturesIgnore}))
	}
	switch a.Kernel {
	case KernelNotOlder, KernelIgnore:
	default:
		errs = append(errs, field.NotSupported(field.NewPath("kernel"), a.Kernel, []KernelPolicy{KernelNotOlder, KernelIgnore}))
	}
	return append(errs, a.Model.validate(field.NewPath("model"))...)
}
