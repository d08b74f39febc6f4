// SPDX-License-Identifier: Apache-2.0

package residue

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint"
	"github.com/cryopod/cryopod/pkg/checkpoint/retention"
	"github.com/cryopod/cryopod/pkg/image"
)

const (
	// slack is how much later than its bound anything may come about on a busy machine.
	slack = time.Minute
	// moment is how long what is only there in between may be there: the files of a self-test, say.
	moment = 2 * time.Minute
	// withdrawal is how long the images of a checkpoint that is over stay (package retention).
	withdrawal = time.Minute
	// unnamed is how long an image without a PodCheckpoint may stay: two searches.
	unnamed = 2 * retention.DefaultSweepEvery
	// stray is how long a pod may take to go after its grace.
	stray = 5 * time.Minute
)

// The kinds of what may be left.
const (
	KindArchive    = "archive"
	KindFile       = "file"
	KindEntry      = "ledger entry"
	KindFrozen     = "frozen container"
	KindProcess    = "process"
	KindImage      = "image"
	KindLease      = "lease"
	KindMount      = "mount"
	KindCheckpoint = "PodCheckpoint"
	KindPod        = "pod"
	KindProfile    = "NodeProfile"
)

// Judge says what of the facts is left over.
func Judge(f *Facts) []Leftover {
	j := &judgement{Facts: f, pods: map[string]bool{}, saving: map[types.UID]bool{}, live: map[types.UID]bool{}, tags: map[string]bool{}}
	for i := range f.Pods {
		p := &f.Pods[i]
		j.pods[string(p.UID)] = true
		for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
			j.tags[p.Spec.NodeName+" "+c.Image] = true
		}
	}
	for i := range f.PodCheckpoints {
		if pc := &f.PodCheckpoints[i]; !pc.Status.Phase.Final() {
			j.saving[pc.Spec.PodUID] = true
			j.live[pc.UID] = true
		}
	}
	for i := range f.Nodes {
		j.node(&f.Nodes[i])
	}
	j.api()
	j.registry()
	slices.SortFunc(j.found, func(a, b Leftover) int { return strings.Compare(a.String(), b.String()) })
	return j.found
}

type judgement struct {
	*Facts
	found []Leftover
	// pods are the UIDs of those that the API server knows, saving of those that a PodCheckpoint still works on, live the UIDs of such
	// PodCheckpoints.
	pods         map[string]bool
	saving, live map[types.UID]bool
	// tags are "node image" of all containers that pods have.
	tags map[string]bool
}

func (j *judgement) left(place, kind, name, why string) {
	j.found = append(j.found, Leftover{Place: place, Kind: kind, Name: name, Why: why})
}

func (j *judgement) older(t time.Time, than time.Duration) bool { return j.Now.Sub(t) > than }

func (j *judgement) node(n *Node) {
	for _, f := range n.Archives {
		if !j.dumping(f.Name) {
			j.left(n.Name, KindArchive, f.Name, "no PodCheckpoint of its pod is being made")
		}
	}
	for _, f := range n.State {
		if f.Name != "lock" && f.Name != "frozen.json" && j.older(f.Changed, moment) {
			j.left(n.Name, KindFile, f.Name, "the agent does not keep it")
		}
	}
	for _, e := range n.Ledger {
		if !j.live[e.CheckpointUID] {
			j.left(n.Name, KindEntry, e.Checkpoint.String(), "its PodCheckpoint is over or gone")
		}
	}
	for _, t := range n.Tasks {
		name := fmt.Sprintf("%s of %s/%s", t.Container, t.Namespace, t.Pod)
		switch {
		case !j.pods[t.PodUID]:
			j.left(n.Name, KindProcess, name, "its pod is gone")
		case t.Paused && !j.saving[types.UID(t.PodUID)]:
			j.left(n.Name, KindFrozen, name, "no PodCheckpoint of its pod is under way")
		}
	}
	for _, i := range n.Images {
		j.image(n.Name, i)
	}
	for _, l := range n.Leases {
		// The CRI gives each sandbox a lease of its ID.
		if !l.Expires && j.older(l.Created, moment) && !slices.Contains(n.Containers, l.ID) {
			j.left(n.Name, KindLease, l.ID, "it never expires, and there is no sandbox of that ID")
		}
	}
	for _, m := range n.Mounts {
		if why := j.mount(m, n.Containers); why != "" {
			j.left(n.Name, KindMount, m, why)
		}
	}
}

// dumping tells whether an archive, checkpoint-POD_NAMESPACE-CONTAINER-TIME.tar, is of an attempt under way.
func (j *judgement) dumping(name string) bool {
	for i := range j.PodCheckpoints {
		pc := &j.PodCheckpoints[i]
		switch pc.Status.Phase {
		case v1alpha1.PhaseFreezing, v1alpha1.PhaseDumping, v1alpha1.PhaseExporting:
			if strings.HasPrefix(name, "checkpoint-"+pc.Spec.PodName+"_"+pc.Namespace+"-") {
				return true
			}
		default:
		}
	}
	return false
}

// image judges a name in a node's image store. Base images are the kubelet's to collect, and so is the name of a checkpoint image that stands
// for one: they hold nothing of a process.
func (j *judgement) image(node string, i Image) {
	temporary := strings.HasPrefix(i.Name, "containerd.io/checkpoint/") || strings.HasPrefix(i.Name, "cryopod.io/")
	switch {
	case temporary && j.older(i.Created, moment):
		j.left(node, KindImage, i.Name, "it is of a dump or a self-test that is over")
	case !temporary && i.Checkpoint && !strings.HasPrefix(i.Name, "sha256:") && !strings.Contains(i.Name, "@") && !j.tags[node+" "+i.Name]:
		j.left(node, KindImage, i.Name, "it stands for a checkpoint that no pod of the node names")
	}
}

// Where the runtime mounts the root of a container, and the kubelet the volumes of a pod.
const (
	tasksDir = "/run/containerd/io.containerd.runtime.v2.task/k8s.io/"
	podsDir  = "/var/lib/kubelet/pods/"
)

// mount says why a mount point is not needed; empty: it is, or it is none of Kubernetes's.
func (j *judgement) mount(point string, containers []string) string {
	if rest, ok := strings.CutPrefix(point, tasksDir); ok {
		id, _, _ := strings.Cut(rest, "/")
		if !slices.Contains(containers, id) {
			return "its container is gone"
		}
	}
	if rest, ok := strings.CutPrefix(point, podsDir); ok {
		uid, _, _ := strings.Cut(rest, "/")
		if !j.pods[uid] {
			return "its pod is gone"
		}
	}
	if strings.Contains(point, "/tmpmounts/") || path.Dir(point) == "/tmp" {
		return "it is in a folder for what is temporary"
	}
	return ""
}

func (j *judgement) api() {
	for i := range j.PodCheckpoints {
		pc := &j.PodCheckpoints[i]
		if why := j.overdue(pc); why != "" {
			j.left("API server", KindCheckpoint, pc.Namespace+"/"+pc.Name, why)
		}
	}
	for i := range j.Pods {
		p := &j.Pods[i]
		if p.DeletionTimestamp != nil && j.older(p.DeletionTimestamp.Time, stray) {
			j.left("API server", KindPod, p.Namespace+"/"+p.Name, "it should have gone")
		}
	}
	for _, name := range j.Profiles {
		if !slices.Contains(j.Members, name) {
			j.left("API server", KindProfile, name, "there is no such node")
		}
	}
	for _, name := range j.Leases {
		if name != "cryopod-webhook" && name != "cryopod-scheduler" {
			j.left("API server", KindLease, name, "nobody of Cryopod has one of that name")
		}
	}
}

// overdue says which bound a PodCheckpoint has passed.
func (j *judgement) overdue(pc *v1alpha1.PodCheckpoint) string {
	since := pc.CreationTimestamp.Time
	if n := len(pc.Status.Timings); n > 0 {
		since = pc.Status.Timings[n-1].Time.Time
	}
	switch phase := pc.Status.Phase; {
	case phase.Final():
		if j.older(since, retention.DefaultAge+v1alpha1.DefaultDeadline+2*time.Minute+slack) {
			return "it has been over for longer than retention keeps it"
		}
	case phase == v1alpha1.PhaseReady:
		if j.older(since, checkpoint.DefaultReadyFor+slack) {
			return "it is still Ready, and nobody has claimed it"
		}
	case phase == v1alpha1.PhaseClaimed:
		if !j.claimed(pc) && j.older(since, checkpoint.DefaultUnboundAfter+slack) {
			return "it is still Claimed, by a pod that is not there"
		}
	default:
		bound := pc.CreationTimestamp.Add(checkpoint.DefaultReadyFor)
		if pc.Spec.Deadline != nil {
			bound = pc.Spec.Deadline.Time
		}
		if j.older(bound, time.Duration(pc.Spec.MaxFreezeSeconds)*time.Second+slack) {
			return fmt.Sprintf("its deadline is over, and it is still %q", phase)
		}
	}
	return ""
}

// claimed tells whether the pod is there that holds the claim.
func (j *judgement) claimed(pc *v1alpha1.PodCheckpoint) bool {
	return pc.Status.Claim != nil && slices.ContainsFunc(j.Pods, func(p corev1.Pod) bool {
		return p.Namespace == pc.Namespace && p.Annotations[v1alpha1.AnnotationClaim] == pc.Status.Claim.ID
	})
}

func (j *judgement) registry() {
	named := map[string]*v1alpha1.PodCheckpoint{}
	for i := range j.PodCheckpoints {
		pc := &j.PodCheckpoints[i]
		named[pc.Namespace+"/"+pc.Name] = pc
	}
	for _, t := range j.Tags {
		name := t.Namespace + ":" + t.Tag
		of, _, ok := image.ParseTag(t.Tag)
		pc := named[t.Namespace+"/"+of]
		switch {
		case !ok:
			j.left("registry", KindImage, name, "it is not named after a PodCheckpoint")
		case pc == nil:
			if t.Created.IsZero() || j.older(t.Created, unnamed+slack) {
				j.left("registry", KindImage, name, "its PodCheckpoint is gone")
			}
		case meta.IsStatusConditionTrue(pc.Status.Conditions, v1alpha1.ConditionImagesRemoved):
			j.left("registry", KindImage, name, "its PodCheckpoint says that it was removed")
		case pc.Status.Phase.Final() && j.older(pc.Status.Timings[len(pc.Status.Timings)-1].Time.Time, withdrawal+slack):
			j.left("registry", KindImage, name, "its PodCheckpoint is over")
		}
	}
}
