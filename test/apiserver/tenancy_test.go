// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package apiserver_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// forge writes into a pod what Cryopod writes on one that starts from the checkpoint.
func forge(pc *v1alpha1.PodCheckpoint, id string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Annotations[v1alpha1.AnnotationRestoreFrom], p.Annotations[v1alpha1.AnnotationClaim] = pc.Name, id
		p.Annotations[v1alpha1.AnnotationBaseImages] = `{"main":"registry.test/app:1"}`
		p.Labels[v1alpha1.LabelRestoring] = "true"
	}
}

func both(changes ...func(*corev1.Pod)) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for _, c := range changes {
			c(p)
		}
	}
}

// unclaimed is that the checkpoint is still for the one that it is meant for.
func unclaimed(t *testing.T, pc *v1alpha1.PodCheckpoint) {
	t.Helper()
	now := &v1alpha1.PodCheckpoint{}
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(pc), now); err != nil {
		t.Fatal(err)
	}
	if now.Status.Phase != v1alpha1.PhaseReady || now.Status.Claim != nil {
		t.Errorf("the checkpoint is %s with the claim %+v", now.Status.Phase, now.Status.Claim)
	}
}

// startsCold creates the pod and wants it to start from its own image, without anything of the checkpoint.
func startsCold(t *testing.T, user client.Client, pod *corev1.Pod) {
	t.Helper()
	if err := user.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	got := getPod(t, pod)
	_, from := got.Annotations[v1alpha1.AnnotationRestoreFrom]
	if got.Spec.Containers[0].Image != "registry.test/app:1" || from || got.Labels[v1alpha1.LabelRestoring] != "" {
		t.Errorf("image %q, annotations %v, labels %v", got.Spec.Containers[0].Image, got.Annotations, got.Labels)
	}
}

// restored creates the pod and wants it to start from the checkpoint.
func restored(t *testing.T, user client.Client, pod *corev1.Pod, pc *v1alpha1.PodCheckpoint) *corev1.Pod {
	t.Helper()
	if err := user.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	got := getPod(t, pod)
	if got.Spec.Containers[0].Image != pc.Status.Containers[0].ImageTag || got.Annotations[v1alpha1.AnnotationRestoreFrom] != pc.Name {
		t.Fatalf("image %q, annotations %v; want those of PodCheckpoint %q", got.Spec.Containers[0].Image, got.Annotations, pc.Name)
	}
	return got
}

func forbidden(t *testing.T, err error) {
	t.Helper()
	if !apierrors.IsForbidden(err) {
		t.Errorf("error %v, want it forbidden", err)
	}
}

// TestHostileCreate has one who may do everything with pods and workloads, but nothing with PodCheckpoints, try to start a pod from one.
func TestHostileCreate(t *testing.T) {
	policies(t)
	ns := namespace(t, nil)
	eve := grant(t, ns, "eve", "eve", deployer...)
	_, pod := realReplicaSet(t, ns)
	controller := clientOf(t, replicaSets)
	pc := savedBy(t, controller, pod())
	tag, byDigest := pc.Status.Containers[0].ImageTag, registry+"/"+ns+"@sha256:"+digest
	owned := func(changes ...func(*corev1.Pod)) *corev1.Pod { p := pod(); both(changes...)(p); return p }

	for name, forged := range map[string]*corev1.Pod{
		"the owner":                      owned(),
		"the owner, the notes":           owned(forge(pc, "guessed")),
		"the notes, not opted in":        owned(plain, forge(pc, "guessed")),
		"the creator":                    owned(annotated(v1alpha1.AnnotationCreator, replicaSets)),
		"the creator, not opted in":      owned(annotated(v1alpha1.AnnotationCreator, replicaSets), plain, annotated(v1alpha1.AnnotationCreator, replicaSets)),
		"the creator, the notes":         owned(forge(pc, "guessed"), annotated(v1alpha1.AnnotationCreator, replicaSets)),
		"the template hash":              owned(annotated(v1alpha1.AnnotationTemplateHash, pc.Status.TemplateHash)),
		"the notes of another namespace": owned(forge(&v1alpha1.PodCheckpoint{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, "guessed")),
	} {
		t.Run("starts cold/"+name, func(t *testing.T) { startsCold(t, eve, forged) })
	}
	volume := func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "memory", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: tag}}}}
	}
	first := func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{{Name: "first", Image: tag}} }
	for name, forged := range map[string]*corev1.Pod{
		"the image":                          owned(plain, withImage(tag)),
		"the image, opted in":                owned(withImage(tag)),
		"the image and the notes":            owned(withImage(tag), forge(pc, "guessed")),
		"the image and notes, not opted in":  owned(plain, withImage(tag), forge(pc, "guessed")),
		"the image by its digest":            owned(plain, withImage(byDigest)),
		"the image in capitals":              owned(plain, withImage("REGISTRY.test/ckpt/"+ns+"@sha256:"+digest)),
		"the image with the port":            owned(plain, withImage("registry.test:443/ckpt/"+ns+"@sha256:"+digest)),
		"the image as a volume":              owned(plain, volume),
		"the image of an init container":     owned(plain, first),
		"the image of another namespace":     owned(plain, withImage(registry+"/other:x.main")),
		"the image of another one, the rest": owned(withImage(registry+"/other:x.main"), forge(pc, "guessed")),
	} {
		t.Run("refused/"+name, func(t *testing.T) { forbidden(t, eve.Create(t.Context(), forged)) })
	}
	unclaimed(t, pc)
	restored(t, controller, pod(), pc)
}

// TestHostileWithoutWebhook has the same where no webhook is asked.
func TestHostileWithoutWebhook(t *testing.T) {
	policies(t)
	ns := namespace(t, map[string]string{v1alpha1.LabelExclude: "true"})
	eve := grant(t, ns, "eve", "eve", deployer...)
	_, pod := realReplicaSet(t, ns)
	pc := podCheckpoint(ns, "web-0-x-1")
	tag := registry + "/" + ns + ":" + pc.Name + ".main"
	for name, change := range map[string]func(*corev1.Pod){
		"the image":                              withImage(tag),
		"the image, the notes":                   both(withImage(tag), forge(pc, "id")),
		"the image, the notes, and the creator":  both(withImage(tag), forge(pc, "id"), annotated(v1alpha1.AnnotationCreator, "eve")),
		"the image of another, with these notes": both(withImage(registry+"/other:"+pc.Name+".main"), forge(pc, "id")),
	} {
		t.Run(name, func(t *testing.T) {
			forged := pod()
			change(forged)
			forbidden(t, eve.Create(t.Context(), forged))
		})
	}
	if err := eve.Create(t.Context(), pod()); err != nil {
		t.Errorf("an ordinary pod: %v", err)
	}
	t.Run("the image of another namespace, by one who may claim here", func(t *testing.T) {
		may := rbacv1.PolicyRule{APIGroups: []string{v1alpha1.Group}, Resources: []string{"podcheckpoints"}, Verbs: []string{v1alpha1.VerbClaim}}
		operator := grant(t, ns, "operator", "operator", append(deployer, may)...)
		forged := pod()
		both(withImage(registry+"/other:"+pc.Name+".main"), forge(pc, "id"))(forged)
		forbidden(t, operator.Create(t.Context(), forged))
	})
}

// TestHostileTemplates has controllers make the pods.
func TestHostileTemplates(t *testing.T) {
	policies(t)
	ns := namespace(t, nil)
	eve := grant(t, ns, "eve", "eve", deployer...)
	noted := map[string]string{v1alpha1.AnnotationRestoreFrom: "x", v1alpha1.AnnotationClaim: "y"}
	d := newDeployment(ns, noted)
	template := *d.Spec.Template.DeepCopy()
	once := *template.DeepCopy()
	once.Spec.RestartPolicy = corev1.RestartPolicyNever
	for name, obj := range map[string]client.Object{
		"Deployment":  d,
		"ReplicaSet":  &appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Selector: d.Spec.Selector, Template: template}},
		"StatefulSet": &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Selector: d.Spec.Selector, Template: template}},
		"Job":         &batchv1.Job{Spec: batchv1.JobSpec{Template: once}},
		"CronJob": &batchv1.CronJob{Spec: batchv1.CronJobSpec{
			Schedule: "0 0 * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: once}},
		}},
		"ReplicationController": &corev1.ReplicationController{Spec: corev1.ReplicationControllerSpec{Selector: map[string]string{"app": "web"}, Template: &template}},
	} {
		t.Run(name, func(t *testing.T) {
			obj.SetNamespace(ns)
			obj.SetName("web")
			forbidden(t, eve.Create(t.Context(), obj))
		})
	}
	if err := eve.Create(t.Context(), newDeployment(ns, map[string]string{v1alpha1.AnnotationEnabled: "true"})); err != nil {
		t.Errorf("an ordinary Deployment: %v", err)
	}
}

// TestForgedCreator has a webhook of another product, which comes after Cryopod's each time, write who made a pod.
func TestForgedCreator(t *testing.T) {
	policies(t)
	ns := namespace(t, map[string]string{"forged": "true"})
	eve := grant(t, ns, "eve", "eve", deployer...)
	hookOf(t, "forged", forgerPath)
	within(t, 30*time.Second, "the pod is refused", func() bool {
		return apierrors.IsForbidden(eve.Create(t.Context(), newPod(ns), client.DryRunAll))
	})
}

// TestHostileUpdate has one who may change pods write into his own what makes it another's.
func TestHostileUpdate(t *testing.T) {
	policies(t)
	ns := namespace(t, nil)
	eve := grant(t, ns, "eve", "eve", deployer...)
	_, pod := realReplicaSet(t, ns)
	pc := savedBy(t, clientOf(t, replicaSets), pod())
	own := pod()
	startsCold(t, eve, own)
	for name, change := range map[string]func(*corev1.Pod){
		"its image":              withImage(pc.Status.Containers[0].ImageTag),
		"the notes":              forge(pc, "guessed"),
		"its creator":            annotated(v1alpha1.AnnotationCreator, replicaSets),
		"no creator":             func(p *corev1.Pod) { delete(p.Annotations, v1alpha1.AnnotationCreator) },
		"its template hash":      annotated(v1alpha1.AnnotationTemplateHash, "another"),
		"that it has begun anew": annotated(v1alpha1.AnnotationFellBack, "why"),
	} {
		t.Run(name, func(t *testing.T) {
			changed := getPod(t, own)
			change(changed)
			forbidden(t, eve.Update(t.Context(), changed))
		})
	}
	t.Run("an ephemeral container", func(t *testing.T) {
		changed := getPod(t, own)
		changed.Spec.EphemeralContainers = []corev1.EphemeralContainer{{
			EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "look", Image: pc.Status.Containers[0].ImageTag},
		}}
		forbidden(t, eve.SubResource("ephemeralcontainers").Update(t.Context(), changed))
	})
	t.Run("what is his", func(t *testing.T) {
		changed := getPod(t, own)
		changed.Annotations["example.com/note"], changed.Spec.Containers[0].Image = "x", "registry.test/app:2"
		if err := eve.Update(t.Context(), changed); err != nil {
			t.Error(err)
		}
	})
}

// TestPoliciesBearLargePods makes and changes pods with far more images than pods have: the API server bounds what the policies' expressions may
// cost, and would refuse what costs more.
func TestPoliciesBearLargePods(t *testing.T) {
	policies(t)
	for _, images := range []int{100, 1000} {
		t.Run(fmt.Sprint(images), func(t *testing.T) {
			ns := namespace(t, nil)
			eve := grant(t, ns, "eve", "eve", deployer...)
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "large"}}
			for n := range images {
				pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{
					Name: fmt.Sprintf("c%d", n), Image: fmt.Sprintf("registry.test/%s/app-%d@sha256:%064d", strings.Repeat("team/", 10), n, n),
				})
			}
			if err := eve.Create(t.Context(), pod); err != nil {
				t.Fatalf("making it: %v", err)
			}
			pod = getPod(t, pod)
			pod.Annotations = map[string]string{"example.com/note": "x"}
			for n := range pod.Spec.Containers {
				pod.Spec.Containers[n].Image = fmt.Sprintf("registry.test/%s/app-%d:2", strings.Repeat("team/", 10), n)
			}
			if err := eve.Update(t.Context(), pod); err != nil {
				t.Errorf("changing it: %v", err)
			}
		})
	}
}

// TestHostileCopy has one who may read pods copy a replacement that was admitted a moment ago: with the claim's ID, before it is bound.
func TestHostileCopy(t *testing.T) {
	policies(t)
	ns := namespace(t, nil)
	eve := grant(t, ns, "eve", "eve", deployer...)
	_, pod := realReplicaSet(t, ns)
	controller := clientOf(t, replicaSets)
	pc := savedBy(t, controller, pod())
	genuine := restored(t, controller, pod(), pc)
	twin := genuine.DeepCopy()
	twin.ObjectMeta = metav1.ObjectMeta{
		Namespace: ns, GenerateName: "web-", Labels: genuine.Labels, Annotations: genuine.Annotations, OwnerReferences: genuine.OwnerReferences,
	}
	forbidden(t, eve.Create(t.Context(), twin.DeepCopy()))
	// Nor as a deployer's pod, with its own image: then the copied claim would be another's.
	twin.Spec.Containers[0].Image, twin.Spec.Volumes = "registry.test/app:1", nil
	startsCold(t, eve, twin)
}

// TestOthersGetNothing has the pods that are like the saved one in everything but whose they are.
func TestOthersGetNothing(t *testing.T) {
	policies(t)
	controller := clientOf(t, replicaSets)
	t.Run("another namespace", func(t *testing.T) {
		here, there := namespace(t, nil), namespace(t, nil)
		rs, pod := realReplicaSet(t, here)
		pc := savedBy(t, controller, pod())
		startsCold(t, controller, newPod(there, ownedBy("apps/v1", "ReplicaSet", rs)))
		unclaimed(t, pc)
	})
	t.Run("the owner was made anew", func(t *testing.T) {
		ns := namespace(t, nil)
		rs, pod := realReplicaSet(t, ns)
		pc := savedBy(t, controller, pod())
		if err := admin.Delete(t.Context(), rs); err != nil {
			t.Fatal(err)
		}
		_, pod = realReplicaSet(t, ns)
		startsCold(t, controller, pod())
		unclaimed(t, pc)
	})
	t.Run("the namespace was made anew", func(t *testing.T) {
		ns := namespace(t, nil)
		rs, pod := realReplicaSet(t, ns)
		pc := savedBy(t, controller, pod())
		renew(t, ns)
		// No namespace controller runs here, so that even the PodCheckpoint is still there.
		if err := admin.Delete(t.Context(), rs); err != nil {
			t.Fatal(err)
		}
		_, pod = realReplicaSet(t, ns)
		startsCold(t, controller, pod())
		unclaimed(t, pc)
	})
	t.Run("another slot", func(t *testing.T) {
		ns := namespace(t, nil)
		sets := clientOf(t, statefulSets)
		set := create(t, &appsv1.StatefulSet{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "db"},
			Spec:       appsv1.StatefulSetSpec{Selector: newDeployment(ns, nil).Spec.Selector, Template: newDeployment(ns, nil).Spec.Template},
		})
		slot := func(name string) *corev1.Pod {
			return newPod(ns, ownedBy("apps/v1", "StatefulSet", set), func(p *corev1.Pod) { p.Name, p.GenerateName = name, "" })
		}
		pc := savedBy(t, sets, slot("db-0"))
		startsCold(t, sets, slot("db-1"))
		unclaimed(t, pc)
		restored(t, sets, slot("db-0"), pc)
	})
	t.Run("the saved pod was made by another", func(t *testing.T) {
		ns := namespace(t, nil)
		eve := grant(t, ns, "eve", "eve", deployer...)
		_, pod := realReplicaSet(t, ns)
		pc := savedBy(t, eve, pod())
		startsCold(t, controller, pod())
		unclaimed(t, pc)
	})
}

// renew deletes the namespace for good and makes another one of its name.
func renew(t *testing.T, name string) {
	t.Helper()
	ns := &corev1.Namespace{}
	ns.Name = name
	if err := admin.Delete(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(ns), ns); err != nil {
		t.Fatal(err)
	}
	before := ns.UID
	ns.Spec.Finalizers = nil
	if _, err := clientset(t).CoreV1().Namespaces().Finalize(t.Context(), ns, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	again := create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	if again.UID == before {
		t.Fatal("it is the same namespace")
	}
}
