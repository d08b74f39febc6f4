// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package apiserver_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// TestOperatorsClaim has the pods of an owner of others' kind.
func TestOperatorsClaim(t *testing.T) {
	policies(t)
	const user = "system:serviceaccount:db:operator"
	owner := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "db", UID: "db-1"}}
	may := rbacv1.PolicyRule{APIGroups: []string{v1alpha1.Group}, Resources: []string{"podcheckpoints"}, Verbs: []string{v1alpha1.VerbClaim}}
	pods := deployer[0]
	for name, tc := range map[string]struct {
		rules []rbacv1.PolicyRule
		by    string
		want  bool
	}{
		"without the verb":      {rules: []rbacv1.PolicyRule{pods}, by: user},
		"with the verb":         {rules: []rbacv1.PolicyRule{pods, may}, by: user, want: true},
		"of another one's pods": {rules: []rbacv1.PolicyRule{pods, may}, by: "another"},
	} {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, nil)
			operator := grant(t, ns, "operator", user, tc.rules...)
			maker := operator
			if tc.by != user {
				maker = grant(t, ns, tc.by, tc.by, pods)
			}
			pod := func() *corev1.Pod {
				return newPod(ns, ownedBy("db.example/v1", "Database", owner), func(p *corev1.Pod) { p.Name, p.GenerateName = "db-0", "" })
			}
			pc := savedBy(t, maker, pod())
			if tc.want {
				restored(t, operator, pod(), pc)
				return
			}
			startsCold(t, operator, pod())
			unclaimed(t, pc)
		})
	}
}

// TestHostileCheckpoints has one who was given everything on PodCheckpoints by mistake, but nothing on pods.
func TestHostileCheckpoints(t *testing.T) {
	policies(t)
	ns := namespace(t, nil)
	all := rbacv1.PolicyRule{APIGroups: []string{v1alpha1.Group}, Resources: []string{"*"}, Verbs: []string{"*"}}
	mallory := grant(t, ns, "mallory", "mallory", all)
	removing := func(how v1alpha1.Removal) func(*v1alpha1.PodCheckpoint) {
		return func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Removal = how }
	}
	for _, how := range []v1alpha1.Removal{v1alpha1.RemovalDelete, v1alpha1.RemovalEvict} {
		t.Run("end a pod by "+string(how), func(t *testing.T) {
			forbidden(t, mallory.Create(t.Context(), podCheckpoint(ns, "end", removing(how))))
		})
	}
	pc := podCheckpoint(ns, "asked")
	if err := mallory.Create(t.Context(), pc); err != nil {
		t.Fatal(err)
	}
	t.Run("forge the status", func(t *testing.T) {
		forged := pc.DeepCopy()
		forged.Status.Phase = v1alpha1.PhaseReady
		forged.Status.Containers = []v1alpha1.ContainerCheckpoint{{Name: "main", BaseImage: "eve.example/app", ImageTag: "eve.example/app:1"}}
		forbidden(t, mallory.Status().Update(t.Context(), forged))
	})
	t.Run("forge whose it is", func(t *testing.T) {
		forged := pc.DeepCopy()
		forged.Labels = map[string]string{v1alpha1.LabelOwnerUID: "another"}
		forbidden(t, mallory.Update(t.Context(), forged))
	})
	t.Run("end a pod that he may end", func(t *testing.T) {
		both := grant(t, ns, "trent", "trent", all, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"delete"}})
		if err := both.Create(t.Context(), podCheckpoint(ns, "his", removing(v1alpha1.RemovalDelete))); err != nil {
			t.Error(err)
		}
	})
}
