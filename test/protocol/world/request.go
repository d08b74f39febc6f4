// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// How long the API server waits for a webhook, by the manifests.
const (
	podTimeout = 10 * time.Second
	endTimeout = 30 * time.Second
)

// path is the webhook that is called.
type path string

const (
	createPath path = "create"
	evictPath  path = "evict"
	deletePath path = "delete"
)

// createPod is a CREATE of a pod: through the webhook, twice where the world says so, as the API server does when another webhook has
// changed the pod, and perhaps refused after that.
func (p *Proc) createPod(ctx context.Context, pod *corev1.Pod) error {
	w := p.w
	if err := p.do(ctx, write, "asks to create a pod", func() error { return nil }); err != nil {
		return err
	}
	w.requests++
	uid := types.UID(fmt.Sprintf("request-%d", w.requests))
	text, err := json.Marshal(pod)
	if err != nil {
		return err
	}
	for range 1 + w.reinvoke {
		resp := w.admit(createPath, podTimeout, admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
			UID: uid, Namespace: pod.Namespace, Object: runtime.RawExtension{Raw: text},
			UserInfo: authenticationv1.UserInfo{Username: w.script.owner()},
		}})
		if resp == nil || len(resp.Patches) == 0 {
			continue
		}
		if text, err = apply(text, *resp); err != nil {
			return err
		}
	}
	made := &corev1.Pod{}
	if err := json.Unmarshal(text, made); err != nil {
		return err
	}
	return p.do(ctx, write, "has its pod stored", func() error {
		if w.refuse > 0 {
			w.refuse--
			return apierrors.NewForbidden(corev1.Resource("pods"), pod.Name, fmt.Errorf("exceeded quota"))
		}
		_, err := w.create(made)
		return err
	})
}

func apply(text []byte, resp admission.Response) ([]byte, error) {
	ops, err := json.Marshal(resp.Patches)
	if err != nil {
		return nil, err
	}
	patch, err := jsonpatch.DecodePatch(ops)
	if err != nil {
		return nil, err
	}
	options := jsonpatch.NewApplyOptions()
	options.EnsurePathExistsOnAdd = false
	return patch.ApplyWithOptions(text, options)
}

// evict is a CREATE of an eviction.
func (p *Proc) evict(ctx context.Context, name string, o *metav1.DeleteOptions) error {
	w := p.w
	if err := p.do(ctx, write, "asks to evict pod "+name, func() error { return nil }); err != nil {
		return err
	}
	asked := time.Now()
	ev := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: name}, DeleteOptions: o}
	text, err := json.Marshal(ev)
	if err != nil {
		return err
	}
	resp := w.admit(evictPath, endTimeout, admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Namespace: Namespace, Name: name, Object: runtime.RawExtension{Raw: text},
	}})
	if resp != nil {
		w.answered(name, asked, resp)
		if err := denied(resp); err != nil {
			w.tell(p.Name, "is answered about pod "+name, firstLine(err.Error()))
			return err
		}
		if len(resp.Patches) > 0 {
			if text, err = apply(text, *resp); err != nil {
				return err
			}
		}
	}
	ev = &policyv1.Eviction{}
	if err := json.Unmarshal(text, ev); err != nil {
		return err
	}
	return p.do(ctx, write, "has pod "+name+" evicted", func() error {
		d := &client.DeleteOptions{}
		if ev.DeleteOptions != nil {
			d.GracePeriodSeconds, d.Preconditions = ev.DeleteOptions.GracePeriodSeconds, ev.DeleteOptions.Preconditions
		}
		return w.deleteObject(ref{"Pod", types.NamespacedName{Namespace: Namespace, Name: name}}, d)
	})
}

// deletePod is a DELETE of a pod by a user.
func (p *Proc) deletePod(ctx context.Context, user, name string, o *metav1.DeleteOptions) error {
	w := p.w
	key := types.NamespacedName{Namespace: Namespace, Name: name}
	var pod *corev1.Pod
	err := p.do(ctx, write, "asks to delete pod "+name, func() error {
		if pod = w.pod(key); pod == nil {
			return notFound(ref{"Pod", key})
		}
		return nil
	})
	if err != nil {
		return err
	}
	old, err := json.Marshal(pod)
	if err != nil {
		return err
	}
	options, err := json.Marshal(o)
	if err != nil {
		return err
	}
	asked := time.Now()
	var resp *admission.Response
	if pod.DeletionTimestamp == nil && pod.Spec.NodeName != "" && pod.Status.Phase == corev1.PodRunning {
		resp = w.admit(deletePath, endTimeout, admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
			Namespace: Namespace, Name: name, OldObject: runtime.RawExtension{Raw: old}, Options: runtime.RawExtension{Raw: options},
			UserInfo: authenticationv1.UserInfo{Username: user},
		}})
	}
	if resp != nil {
		w.answered(name, asked, resp)
		if err := denied(resp); err != nil {
			w.tell(p.Name, "is answered about pod "+name, firstLine(err.Error()))
			return err
		}
	}
	return p.do(ctx, write, "has pod "+name+" deleted", func() error {
		return w.deleteObject(ref{"Pod", key}, &client.DeleteOptions{GracePeriodSeconds: o.GracePeriodSeconds, Preconditions: o.Preconditions})
	})
}

// denied is the error that a client gets for the answer, nil when the request was let through.
func denied(resp *admission.Response) error {
	if resp.Allowed {
		return nil
	}
	if resp.Result != nil && resp.Result.Code == http.StatusTooManyRequests {
		return apierrors.NewTooManyRequests(resp.Result.Message, 0)
	}
	return fmt.Errorf("denied: %v", resp.Result)
}

// admit calls a replica of the webhook that lives, in turns. Without an answer in time, or when the replica dies, the request goes through
// as it came (failurePolicy: Ignore), which is nil.
func (w *World) admit(to path, timeout time.Duration, req admission.Request) *admission.Response {
	replica := w.replica()
	if replica == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(replica.p.ctx, timeout)
	defer cancel()
	done := make(chan struct{})
	var resp *admission.Response
	go func() {
		defer close(done)
		r := replica.handle(ctx, to, req)
		resp = &r
	}()
	select {
	case <-done:
		return resp
	case <-ctx.Done():
		// What the handler answers at this moment, nobody hears.
		return nil
	}
}
