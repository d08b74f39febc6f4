// SPDX-License-Identifier: Apache-2.0

// Package profile tells the cluster what its node can do for checkpoints: it keeps the node's NodeProfile.
package profile

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/imageindex"
)

// maxImages bounds the images in a profile, so that the object stays small; the largest are kept, since they are what makes a
// difference.
const maxImages = 500

// maxMessage is the longest message that the API takes, in bytes.
const maxMessage = 1024

// Test is what the last self-test found.
type Test struct {
	// Done is true once a self-test has ended, or was left out.
	Done bool
	// Skipped is true when the administrator turned the self-test off.
	Skipped bool
	// DumpFailure says why the node can't checkpoint; empty when it can.
	DumpFailure string
	// Method is the restore method's result.
	Method v1alpha1.RestoreMethod
}

// Facts are all that goes into a profile.
type Facts struct {
	// Node is what kernel and CPU offer.
	Node Node
	// Runtime is the container runtime and its version, CRIUVersion that of CRIU.
	Runtime, CRIUVersion string
	// CRIUConfig is who wrote CRIU's options, CRIUConfigMessage what will not work with them.
	CRIUConfig, CRIUConfigMessage string
	// KubeletFailure says why the kubelet would not take a checkpoint request; empty when it would.
	KubeletFailure string
	// Test is the self-test's result.
	Test Test
	// Images are the images on the node.
	Images []imageindex.Image
	// PushBytesPerSecond is the measured bandwidth; 0 when none was measured.
	PushBytesPerSecond int64
	// DumpBytesPerSecond is the measured rate of dumps; 0 when none was measured.
	DumpBytesPerSecond int64
	// PullBytesPerSecond is the measured bandwidth of pulls; 0 when none was measured.
	PullBytesPerSecond int64
	// Notices are what the agent sees coming, at most one of each cause.
	Notices map[v1alpha1.NoticeCause]v1alpha1.NodeNotice
}

// Profile collects facts from the parts of the agent. Its methods may be called concurrently.
type Profile struct {
	// Changed is called after each Update, Unhurried after each Note, Urgent after each Announce, never with the lock held; nil means nobody
	// is told.
	Changed, Unhurried, Urgent func()

	mu    sync.Mutex
	facts Facts
}

// Update changes facts.
func (p *Profile) Update(change func(*Facts)) { p.change(change, p.Changed) }

// Note changes facts that nobody waits for.
func (p *Profile) Note(change func(*Facts)) { p.change(change, p.Unhurried) }

func (p *Profile) change(change func(*Facts), tell func()) {
	p.mu.Lock()
	change(&p.facts)
	p.mu.Unlock()
	if tell != nil {
		tell()
	}
}

// Announce puts up the notice of a cause in place of the one before; nil takes it down.
func (p *Profile) Announce(cause v1alpha1.NoticeCause, notice *v1alpha1.NodeNotice) {
	p.mu.Lock()
	notices := maps.Clone(p.facts.Notices)
	if notices == nil {
		notices = map[v1alpha1.NoticeCause]v1alpha1.NodeNotice{}
	}
	if delete(notices, cause); notice != nil {
		notices[cause] = *notice.DeepCopy()
	}
	p.facts.Notices = notices
	p.mu.Unlock()
	if p.Urgent != nil {
		p.Urgent()
	}
}

// Facts returns what is known now.
func (p *Profile) Facts() Facts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.facts
}

// Requirements is what a node has to offer for what is dumped on this one.
func (p *Profile) Requirements() *v1alpha1.Requirements {
	f := p.Facts()
	return &v1alpha1.Requirements{
		Arch: f.Node.Arch, CPUFeatures: slices.Clone(f.Node.CPUFeatures), Kernel: f.Node.Kernel, CgroupVersion: f.Node.CgroupVersion,
		Runtime: f.Runtime, CRIUVersion: f.CRIUVersion,
	}
}

// StatusOf is the profile's status for these facts. Conditions keep the time of their last change from before. Until the self-test
// has ended, what a former life's found stays, unless the runtime is another one: a restart of the agent changes nothing for pods.
func StatusOf(f Facts, before v1alpha1.NodeProfileStatus, now time.Time) v1alpha1.NodeProfileStatus {
	s := v1alpha1.NodeProfileStatus{
		Arch: f.Node.Arch, CPUFeatures: slices.Clone(f.Node.CPUFeatures), Kernel: f.Node.Kernel, CgroupVersion: f.Node.CgroupVersion,
		Runtime: f.Runtime, CRIUVersion: f.CRIUVersion, CRIUConfig: f.CRIUConfig,
		ImageIndex: imageindex.Pack(pick(f.Images)), PushBytesPerSecond: f.PushBytesPerSecond, PullBytesPerSecond: f.PullBytesPerSecond,
		Notice: noticeOf(f),
	}
	if f.Images == nil {
		s.ImageIndex = before.ImageIndex
	}
	if f.PushBytesPerSecond == 0 {
		s.PushBytesPerSecond = before.PushBytesPerSecond
	}
	if s.DumpBytesPerSecond = f.DumpBytesPerSecond; s.DumpBytesPerSecond == 0 {
		s.DumpBytesPerSecond = before.DumpBytesPerSecond
	}
	if f.PullBytesPerSecond == 0 {
		s.PullBytesPerSecond = before.PullBytesPerSecond
	}
	if f.Test.Done {
		method := f.Test.Method
		method.Message = cut(method.Message)
		if method.Time != nil {
			// As the API keeps it: a finer one would differ from what was read back.
			method.Time = new(method.Time.Rfc3339Copy())
		}
		s.RestoreMethods = []v1alpha1.RestoreMethod{method}
	}
	for _, c := range before.Conditions {
		s.Conditions = append(s.Conditions, *c.DeepCopy())
	}
	if !f.Test.Done && f.KubeletFailure == "" && len(before.RestoreMethods) > 0 && (f.Runtime == "" || f.Runtime == before.Runtime) {
		s.Runtime, s.CRIUVersion, s.RestoreMethods = before.Runtime, before.CRIUVersion, before.RestoreMethods
		return s
	}
	for _, c := range []metav1.Condition{canCheckpoint(f), canRestore(f)} {
		c.Message = cut(c.Message)
		c.LastTransitionTime = metav1.NewTime(now)
		meta.SetStatusCondition(&s.Conditions, c)
	}
	return s
}

// noticeOf is the notice to publish: the end of the node before the end of a pod. What a former life announced is over.
func noticeOf(f Facts) *v1alpha1.NodeNotice {
	for _, cause := range []v1alpha1.NoticeCause{v1alpha1.NoticeShutdown, v1alpha1.NoticeMemoryPressure} {
		if n, up := f.Notices[cause]; up {
			// As the API keeps it: a finer one would differ from what was read back.
			n.Since.Time, n.Deadline.Time = n.Since.Truncate(time.Microsecond), n.Deadline.Truncate(time.Microsecond)
			n.Message = cut(n.Message)
			return &n
		}
	}
	return nil
}

func canCheckpoint(f Facts) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionCanCheckpoint, Status: metav1.ConditionFalse}
	switch {
	case f.KubeletFailure != "":
		c.Reason, c.Message = "KubeletRefuses", f.KubeletFailure
	case !f.Test.Done:
		c.Status, c.Reason, c.Message = metav1.ConditionUnknown, "NotTested", "the self-test has not ended yet"
	case f.Test.DumpFailure != "":
		c.Reason, c.Message = "DumpFails", f.Test.DumpFailure
	case f.Test.Skipped:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, "NotTested", f.Test.Method.Message
	case f.CRIUConfigMessage != "":
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, "Limited", f.CRIUConfigMessage
	default:
		c.Status, c.Reason = metav1.ConditionTrue, "Tested"
	}
	return c
}

func canRestore(f Facts) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionCanRestore, Status: metav1.ConditionFalse, Message: f.Test.Method.Message}
	switch {
	case !f.Test.Done:
		c.Status, c.Reason, c.Message = metav1.ConditionUnknown, "NotTested", "the self-test has not ended yet"
	case f.Test.Method.Verified:
		c.Status, c.Reason = metav1.ConditionTrue, "Verified"
	default:
		c.Reason = "NotVerified"
	}
	return c
}

// pick keeps the largest images when there are too many.
func pick(images []imageindex.Image) []imageindex.Image {
	if len(images) <= maxImages {
		return images
	}
	images = slices.Clone(images)
	slices.SortFunc(images, func(a, b imageindex.Image) int {
		return cmp.Or(cmp.Compare(size(b), size(a)), cmp.Compare(a.Digest, b.Digest))
	})
	return images[:maxImages]
}

func size(i imageindex.Image) (bytes int64) {
	for _, l := range i.Layers {
		bytes += l.Bytes
	}
	return bytes
}

func cut(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessage], "")
}
