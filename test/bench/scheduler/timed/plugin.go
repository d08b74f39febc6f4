// SPDX-License-Identifier: Apache-2.0

package timed

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/imagelocality"

	"github.com/cryopod/cryopod/pkg/locality"
)

// ImageLocality is the name of the timed ImageLocality: the other one's is taken.
const ImageLocality = "TimedImageLocality"

// Locality is CheckpointLocality, timed. What has no method here goes to the plugin without being timed; a test keeps that to what is none of
// a scheduling cycle's extension points.
type Locality struct {
	*locality.Plugin

	preEnqueue, sign, preFilter, filter, preScore, score, normalize, reserve, unreserve stopwatch
}

func newLocality(ctx context.Context, args runtime.Object, handle fwk.Handle) (fwk.Plugin, error) {
	made, err := locality.New(ctx, args, handle)
	if err != nil {
		return nil, err
	}
	inner, ok := made.(*locality.Plugin)
	if !ok {
		return nil, fmt.Errorf("making %s: it is a %T", locality.Name, made)
	}
	at := func(point string) stopwatch { return newStopwatch(locality.Name, point) }
	return &Locality{
		Plugin: inner, preEnqueue: at("PreEnqueue"), sign: at("Sign"), preFilter: at("PreFilter"), filter: at("Filter"), preScore: at("PreScore"), score: at("Score"),
		normalize: at("NormalizeScore"), reserve: at("Reserve"), unreserve: at("Unreserve"),
	}, nil
}

// PreEnqueue is timed.
func (l *Locality) PreEnqueue(ctx context.Context, pod *corev1.Pod) *fwk.Status {
	defer l.preEnqueue.since(time.Now())
	return l.Plugin.PreEnqueue(ctx, pod)
}

// SignPod is timed.
func (l *Locality) SignPod(ctx context.Context, pod *corev1.Pod) ([]fwk.SignFragment, *fwk.Status) {
	defer l.sign.since(time.Now())
	return l.Plugin.SignPod(ctx, pod)
}

// PreFilter is timed.
func (l *Locality) PreFilter(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, nodes []fwk.NodeInfo) (*fwk.PreFilterResult, *fwk.Status) {
	defer l.preFilter.since(time.Now())
	return l.Plugin.PreFilter(ctx, state, pod, nodes)
}

// Filter is timed.
func (l *Locality) Filter(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, node fwk.NodeInfo) *fwk.Status {
	defer l.filter.since(time.Now())
	return l.Plugin.Filter(ctx, state, pod, node)
}

// PreScore is timed.
func (l *Locality) PreScore(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, nodes []fwk.NodeInfo) *fwk.Status {
	defer l.preScore.since(time.Now())
	return l.Plugin.PreScore(ctx, state, pod, nodes)
}

// Score is timed.
func (l *Locality) Score(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, node fwk.NodeInfo) (int64, *fwk.Status) {
	defer l.score.since(time.Now())
	return l.Plugin.Score(ctx, state, pod, node)
}

// ScoreExtensions are timed.
func (l *Locality) ScoreExtensions() fwk.ScoreExtensions { return l }

// NormalizeScore is timed.
func (l *Locality) NormalizeScore(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, scores fwk.NodeScoreList) *fwk.Status {
	defer l.normalize.since(time.Now())
	return l.Plugin.NormalizeScore(ctx, state, pod, scores)
}

// Reserve is timed.
func (l *Locality) Reserve(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, node string) *fwk.Status {
	defer l.reserve.since(time.Now())
	return l.Plugin.Reserve(ctx, state, pod, node)
}

// Unreserve is timed.
func (l *Locality) Unreserve(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, node string) {
	defer l.unreserve.since(time.Now())
	l.Plugin.Unreserve(ctx, state, pod, node)
}

// Images is ImageLocality, timed.
type Images struct {
	*imagelocality.ImageLocality

	sign, score stopwatch
}

func newImages(ctx context.Context, args runtime.Object, handle fwk.Handle) (fwk.Plugin, error) {
	made, err := imagelocality.New(ctx, args, handle)
	if err != nil {
		return nil, err
	}
	inner, ok := made.(*imagelocality.ImageLocality)
	if !ok {
		return nil, fmt.Errorf("making %s: it is a %T", imagelocality.Name, made)
	}
	at := func(point string) stopwatch { return newStopwatch(ImageLocality, point) }
	return &Images{ImageLocality: inner, sign: at("Sign"), score: at("Score")}, nil
}

// Name is ImageLocality.
func (*Images) Name() string { return ImageLocality }

// SignPod is timed.
func (i *Images) SignPod(ctx context.Context, pod *corev1.Pod) ([]fwk.SignFragment, *fwk.Status) {
	defer i.sign.since(time.Now())
	return i.ImageLocality.SignPod(ctx, pod)
}

// Score is timed.
func (i *Images) Score(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, node fwk.NodeInfo) (int64, *fwk.Status) {
	defer i.score.since(time.Now())
	return i.ImageLocality.Score(ctx, state, pod, node)
}
