// SPDX-License-Identifier: Apache-2.0

// Package world makes up a large cluster: nodes, their profiles, pods as they run, and checkpoints, each about as large as real ones are.
package world

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/imageindex"
	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/test/bench/scale/store"
)

const (
	// images is how many images a node has.
	images = 50
	// Kinds is how many images there are in all.
	Kinds = 500
	// features is how many features a CPU has.
	features = 110
	// OptedIn is one of how many pods that is opted in.
	OptedIn = 10
	// Namespace is where the pods are.
	Namespace = "bench"
)

// NodeName is that of the node of that number.
func NodeName(i int) string { return fmt.Sprintf("node-%05d", i) }

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: uuid.NewUUID(), CreationTimestamp: metav1.Now(), Labels: map[string]string{},
		Annotations: map[string]string{},
	}
}

// managed is what the API server notes of who wrote which field: for most objects, as much again as the object.
func managed(m *metav1.ObjectMeta, apiVersion string, writers ...string) {
	fields := `{"f:metadata":{"f:annotations":{".":{},"f:x":{}},"f:labels":{".":{},"f:y":{}}},"f:spec":{` +
		strings.TrimSuffix(strings.Repeat(`"f:containers":{"k:{\"name\":\"app\"}":{".":{},"f:image":{},"f:resources":{}}},`, 8), ",") + `}}`
	for _, w := range writers {
		m.ManagedFields = append(m.ManagedFields, metav1.ManagedFieldsEntry{
			Manager: w, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: apiVersion, Time: ptr.To(metav1.Now()),
			FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields),
		})
	}
}

// Image is the name and tag of the image of that kind, of which each node has some. Kinds repeat after Kinds.
func Image(kind int) string { return imageName(kind%Kinds) + ":1.0" }

// ImageDigest is its digest.
func ImageDigest(kind int) string { return digest(kind % Kinds) }

func imageName(kind int) string { return fmt.Sprintf("registry.test/team-%d/app-%d", kind%20, kind) }

// digest differs from others' at its beginning too, as real ones do: that is all that a node's index keeps of it.
func digest(n int) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256(strconv.AppendInt(nil, int64(n), 10)))
}

// Node is the node of that number, with its lease renewed just now.
func Node(i int) store.Object {
	n := &corev1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: meta("", NodeName(i)),
		Spec: corev1.NodeSpec{ProviderID: "cloud:///" + NodeName(i), PodCIDR: fmt.Sprintf("10.%d.%d.0/24", i/250, i%250)},
	}
	managed(&n.ObjectMeta, "v1", "kubelet", "kube-controller-manager")
	n.Labels = map[string]string{
		corev1.LabelHostname: n.Name, corev1.LabelTopologyZone: fmt.Sprintf("zone-%d", i%3), corev1.LabelOSStable: "linux",
		corev1.LabelArchStable: "amd64", corev1.LabelInstanceTypeStable: fmt.Sprintf("type-%d", i%7),
	}
	room := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("16"), corev1.ResourceMemory: resource.MustParse("64Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	n.Status = corev1.NodeStatus{
		Capacity: room, Allocatable: room,
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.200.%d.%d", i/250, i%250+1)}},
		NodeInfo:  corev1.NodeSystemInfo{KernelVersion: "6.12.0", ContainerRuntimeVersion: "containerd://2.3.7", KubeletVersion: "v1.37.1"},
	}
	for _, t := range []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		status := corev1.ConditionFalse
		if t == corev1.NodeReady {
			status = corev1.ConditionTrue
		}
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{
			Type: t, Status: status, LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(), Reason: "KubeletReady", Message: "as it should be",
		})
	}
	for k := range images {
		kind := (i*7 + k*11) % Kinds
		n.Status.Images = append(n.Status.Images, corev1.ContainerImage{
			Names: []string{imageName(kind) + "@" + digest(kind), imageName(kind) + ":1.0"}, SizeBytes: int64(kind+1) << 20,
		})
	}
	return store.Object{Key: "minions/" + n.Name, Value: n}
}

// Lease is the node's heartbeat.
func Lease(i int) store.Object {
	l := &coordinationv1.Lease{
		TypeMeta:   metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"},
		ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: NodeName(i), UID: types.UID(NodeName(i))},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: ptr.To(NodeName(i)), LeaseDurationSeconds: ptr.To(int32(40)), RenewTime: ptr.To(metav1.NowMicro()),
		},
	}
	return store.Object{Key: "leases/" + l.Namespace + "/" + l.Name, Value: l}
}

// Profile is what the node's agent publishes.
func Profile(i int) store.Object {
	p := &v1alpha1.NodeProfile{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "NodeProfile"}, ObjectMeta: meta("", NodeName(i)),
		Status: v1alpha1.NodeProfileStatus{
			Arch: "amd64", Kernel: "6.12.0", CgroupVersion: 2, Runtime: "containerd://2.3.7", CRIUVersion: "4.2", CRIUConfig: "Managed",
			RestoreMethods:     []v1alpha1.RestoreMethod{{Name: v1alpha1.RestoreMethodImage, Verified: true, Message: "took 1.2 s"}},
			PushBytesPerSecond: 100 << 20, DumpBytesPerSecond: 200 << 20,
		},
	}
	managed(&p.ObjectMeta, v1alpha1.GroupVersion.String(), "agent")
	for k := range features {
		p.Status.CPUFeatures = append(p.Status.CPUFeatures, fmt.Sprintf("feature%03d", k))
	}
	var all []imageindex.Image
	for k := range images {
		kind := (i*7 + k*11) % Kinds
		image := imageindex.Image{Digest: digest(kind), Names: []string{imageName(kind) + ":1.0"}}
		for l := range 6 {
			image.Layers = append(image.Layers, imageindex.Layer{Digest: digest(1_000_000 + kind*3 + l), Bytes: int64(kind+1) << 18})
		}
		all = append(all, image)
	}
	p.Status.ImageIndex = imageindex.Pack(all)
	for _, t := range []string{v1alpha1.ConditionCanCheckpoint, v1alpha1.ConditionCanRestore} {
		p.Status.Conditions = append(p.Status.Conditions, metav1.Condition{
			Type: t, Status: metav1.ConditionTrue, Reason: "Verified", Message: "verified", LastTransitionTime: metav1.Now(),
		})
	}
	return store.Object{Key: v1alpha1.Group + "/nodeprofiles/" + p.Name, Value: p, Custom: true}
}

func container(name string) corev1.Container {
	c := corev1.Container{
		Name: name, Image: imageName(len(name)) + ":1.0", ImagePullPolicy: corev1.PullIfNotPresent,
		Command: []string{"/usr/bin/app"}, Args: []string{"--listen=:8080", "--config=/etc/app/config.yaml", "--log-level=info"},
		Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
		},
		VolumeMounts: []corev1.VolumeMount{
			{Name: "config", MountPath: "/etc/app"}, {Name: "token", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true},
		},
		LivenessProbe: &corev1.Probe{PeriodSeconds: 10, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3, ProbeHandler: corev1.ProbeHandler{
			HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080), Scheme: corev1.URISchemeHTTP},
		}},
		TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile,
	}
	for k := range 10 {
		c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("SETTING_%d", k), Value: fmt.Sprintf("a value of some length, number %d", k)})
	}
	return c
}

// patience is the toleration that every pod gets for a node that is not there.
func patience(key string) corev1.Toleration {
	return corev1.Toleration{
		Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To(int64(300)),
	}
}

// New is the pod of that number as its owner makes it.
func New(i int) *corev1.Pod {
	owner := i / 10
	pod := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: Namespace, Name: fmt.Sprintf("app-%d-6d4cf56db6-%05d", owner, i),
			Labels:      map[string]string{"app": fmt.Sprintf("app-%d", owner), "pod-template-hash": "6d4cf56db6"},
			Annotations: map[string]string{"prometheus.io/scrape": "true"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: fmt.Sprintf("app-%d-6d4cf56db6", owner), UID: types.UID(fmt.Sprintf("owner-%d", owner)),
				Controller: ptr.To(true),
			}},
		},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{container("app"), container("sidecar")}, RestartPolicy: corev1.RestartPolicyAlways,
			DNSPolicy: corev1.DNSClusterFirst, ServiceAccountName: "default", SecurityContext: &corev1.PodSecurityContext{},
			SchedulerName: corev1.DefaultSchedulerName, TerminationGracePeriodSeconds: ptr.To(int64(30)), EnableServiceLinks: ptr.To(true),
			Volumes: []corev1.Volume{
				{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
					LocalObjectReference: corev1.LocalObjectReference{Name: "config"}, DefaultMode: ptr.To(int32(420)),
				}}},
				{Name: "token", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			},
			Tolerations: []corev1.Toleration{
				patience("node.kubernetes.io/not-ready"),
				patience("node.kubernetes.io/unreachable"),
			},
		},
	}
	if i%OptedIn == 0 {
		pod.Annotations[v1alpha1.AnnotationEnabled] = "true"
	}
	return pod
}

// Pod is that pod as it runs on one of the nodes.
func Pod(i, nodes int) store.Object {
	pod := New(i)
	if inject.Enabled(pod) {
		pod = inject.OptIn(pod, inject.Options{TemplateHash: "0123456789abcdef", Scheduler: true})
	}
	pod.UID, pod.CreationTimestamp = PodUID(i), metav1.NewTime(time.Now().Add(-time.Hour))
	managed(&pod.ObjectMeta, "v1", "kube-controller-manager", "kubelet")
	pod.Spec.NodeName = NodeName(i % nodes)
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, QOSClass: corev1.PodQOSBurstable, HostIP: "10.200.0.1", PodIP: fmt.Sprintf("10.%d.%d.%d", i/62500, i/250%250, i%250+1),
		StartTime: ptr.To(metav1.Now()),
	}
	pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}}
	for _, t := range []corev1.PodConditionType{
		corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady, corev1.PodReadyToStartContainers,
	} {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
	}
	for _, c := range pod.Spec.Containers {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Ready: true, Started: ptr.To(true), Image: c.Image, ImageID: c.Image + "@" + digest(i%Kinds),
			ContainerID: fmt.Sprintf("containerd://%064x", i), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}},
		})
	}
	return store.Object{Key: "pods/" + pod.Namespace + "/" + pod.Name, Value: pod}
}

// PodUID is the UID of the pod of that number.
func PodUID(i int) types.UID { return types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012d", i)) }

// Checkpoint is the one, restored, of the pod of that number, which came in the place of another.
func Checkpoint(i, nodes int) store.Object {
	pod := New(i * OptedIn)
	pc := &v1alpha1.PodCheckpoint{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "PodCheckpoint"},
		ObjectMeta: meta(Namespace, fmt.Sprintf("checkpoint-%05d", i)),
		Spec: v1alpha1.PodCheckpointSpec{
			PodName: pod.Name + "-before", PodUID: types.UID(fmt.Sprintf("before-%d", i)), NodeName: NodeName(i % nodes),
			Reason: v1alpha1.ReasonEviction, Fence: true,
		},
	}
	managed(&pc.ObjectMeta, v1alpha1.GroupVersion.String(), "webhook", "agent")
	owner := pod.OwnerReferences[0]
	pc.Labels[v1alpha1.LabelOwnerUID] = string(owner.UID)
	for _, c := range pod.Spec.Containers {
		pc.Status.Containers = append(pc.Status.Containers, v1alpha1.ContainerCheckpoint{
			Name: c.Name, BaseImage: c.Image, BaseImageDigest: c.Image + "@" + digest(i),
			ImageTag: "registry.test/checkpoints/bench:" + pc.Name + "." + c.Name,
			Bytes:    200 << 20, PushedBytes: 50 << 20,
		})
	}
	pc.Status.Owner = &v1alpha1.Owner{UID: owner.UID, APIVersion: owner.APIVersion, Kind: owner.Kind, Name: owner.Name}
	pc.Status.TemplateHash = "0123456789abcdef"
	at := time.Now().Add(-time.Minute)
	for _, phase := range []v1alpha1.Phase{
		v1alpha1.PhasePending, v1alpha1.PhaseFreezing, v1alpha1.PhaseDumping, v1alpha1.PhaseExporting, v1alpha1.PhaseReady, v1alpha1.PhaseClaimed,
		v1alpha1.PhaseRestored,
	} {
		pc.Status.Enter(phase, "", at)
		at = at.Add(time.Second)
	}
	pc.Status.Claim = &v1alpha1.Claim{ID: "claim", PodName: pod.Name, PodUID: PodUID(i * OptedIn), Time: metav1.NowMicro()}
	return store.Object{Key: v1alpha1.Group + "/podcheckpoints/" + pc.Namespace + "/" + pc.Name, Value: pc, Custom: true}
}
