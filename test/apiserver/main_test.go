// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package apiserver_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/termination"
	"github.com/cryopod/cryopod/test/apiserver"
)

// hold is how long the webhook of these tests holds an eviction: short, so that a test can wait for a 429.
const hold = 2 * time.Second

// patience bounds one answer on a busy machine. A client that tried again within one call, each time for hold, would take longer.
const patience = 8 * hold

var (
	server *apiserver.Server
	admin  client.WithWatch
	hooks  *envtest.WebhookInstallOptions
	// cached reads what the webhook has in its cache.
	cached client.Reader
	// calls counts the webhook's requests by path.
	calls = map[string]*atomic.Int64{admission.PathPod: {}, admission.PathEviction: {}, injectorPath: {}}
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctrl.SetLogger(zap.New(zap.WriteTo(os.Stderr)))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if server, err = apiserver.Run(ctx); err != nil {
		return 1, err
	}
	defer func() { err = join(err, server.Stop()) }()
	if admin, err = server.Client(); err != nil {
		return 1, err
	}
	if err := schedulerRuns(ctx); err != nil {
		return 1, err
	}
	if hooks, err = server.Webhooks("manifests/webhook/webhook-configuration.yaml"); err != nil {
		return 1, err
	}
	defer func() { err = join(err, hooks.Cleanup()) }()
	mgr, err := newManager(ctx)
	if err != nil {
		return 1, err
	}
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	for mgr.GetWebhookServer().StartedChecker()(nil) != nil {
		select {
		case err := <-ended:
			return 1, fmt.Errorf("the manager has ended: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
	code = m.Run()
	cancel()
	return code, <-ended
}

func join(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func newManager(ctx context.Context) (ctrl.Manager, error) {
	mux := http.NewServeMux()
	// The API server does not ask the webhook about what the webhook does.
	config := rest.CopyConfig(server.Config)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:cryopod-system:cryopod-webhook", Groups: []string{"system:masters"},
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:  apiserver.Scheme(),
		Metrics: metricsserver.Options{BindAddress: "0"},
		WebhookServer: &counting{Server: webhook.NewServer(webhook.Options{
			Host: hooks.LocalServingHost, Port: hooks.LocalServingPort, CertDir: hooks.LocalServingCertDir, WebhookMux: mux,
		})},
	})
	if err != nil {
		return nil, err
	}
	if err := admission.SetupWithManager(ctx, mgr, admission.Options{Hold: hold, PickupTimeout: 4 * time.Second}); err != nil {
		return nil, err
	}
	cached = mgr.GetClient()
	admission.SetupNodes(mgr, termination.Defaults())
	mgr.GetWebhookServer().Register(injectorPath, &webhook.Admission{Handler: injector()})
	mgr.GetWebhookServer().Register(forgerPath, &webhook.Admission{Handler: forger()})
	return mgr, nil
}

// counting is a webhook server that counts its requests.
type counting struct{ webhook.Server }

func (c *counting) Register(path string, h http.Handler) {
	if calls[path] == nil {
		calls[path] = &atomic.Int64{}
	}
	c.Server.Register(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls[path].Add(1)
		h.ServeHTTP(w, r)
	}))
}

// schedulerRuns makes the Lease that Cryopod's scheduler would hold.
func schedulerRuns(ctx context.Context) error {
	for _, obj := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "cryopod-system"}},
		&coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: "cryopod-system", Name: "cryopod-scheduler"},
			Spec: coordinationv1.LeaseSpec{
				HolderIdentity: ptr.To("test"), LeaseDurationSeconds: ptr.To(int32(3600)), RenewTime: ptr.To(metav1.NowMicro()),
			},
		},
	} {
		if err := admin.Create(ctx, obj); err != nil {
			return fmt.Errorf("creating %T: %w", obj, err)
		}
	}
	return nil
}
