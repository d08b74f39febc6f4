// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/cryopod/cryopod/pkg/agent/containerd"
	"github.com/cryopod/cryopod/pkg/agent/criuconf"
	"github.com/cryopod/cryopod/pkg/agent/profile"
	"github.com/cryopod/cryopod/pkg/imageindex"
)

const (
	// whenWrong is the pause between two looks at something that is not as it must be, whenRight at something that is.
	whenWrong = 30 * time.Second
	whenRight = 10 * time.Minute
)

// addUpkeep adds what looks after the node: CRIU's options, whether the kubelet would do what it is asked, the list of images,
// how fast they are pulled.
func (a *agent) addUpkeep() error {
	images := &profile.ImageWatcher{
		Watch: func(ctx context.Context, changed func()) error {
			return a.runtime.Watch(ctx, changed, containerd.ImageTopics)
		},
		List: a.runtime.ListImages,
		Found: func(found []imageindex.Image) {
			a.profile.Update(func(f *profile.Facts) { f.Images = found })
		},
		Clock: a.clock,
	}
	pulls := &profile.PullWatcher{
		Puller: a.runtime,
		Watch: func(ctx context.Context, starts func()) error {
			return a.runtime.Watch(ctx, starts, containerd.ContainerTopics)
		},
		Measured: a.pullRate.Measured,
		Clock:    a.clock,
	}
	return errors.Join(a.mgr.Add(a.repeat(a.ensureCRIUConfig)), a.mgr.Add(a.repeat(a.probeKubelet)), a.mgr.Add(images), a.mgr.Add(pulls))
}

// repeat calls look at once and again, sooner while it finds something wrong.
func (a *agent) repeat(look func(context.Context) (right bool)) manager.RunnableFunc {
	return func(ctx context.Context) error {
		for {
			pause := whenWrong
			if look(ctx) {
				pause = whenRight
			}
			select {
			case <-ctx.Done():
				return nil
			case <-a.clock.After(pause):
			}
		}
	}
}

func (a *agent) ensureCRIUConfig(ctx context.Context) bool {
	if a.CRIUConfig == "" {
		a.profile.Update(func(f *profile.Facts) {
			f.CRIUConfig, f.CRIUConfigMessage = string(criuconf.Missing), "--criu-config is empty: CRIU's options are not looked after"
		})
		return true
	}
	logger := log.FromContext(ctx).WithName("criuconf")
	state, err := criuconf.Ensure(a.CRIUConfig)
	switch {
	case err != nil:
		state.Message = err.Error() + ": pods with an established TCP connection can't be saved"
		logger.Error(err, "Writing CRIU's options")
	case state.Changed:
		logger.Info("Wrote CRIU's options", "path", a.CRIUConfig)
	}
	before := a.profile.Facts()
	if string(state.Owner) != before.CRIUConfig && state.Owner == criuconf.Administrator {
		logger.Info("CRIU's options are an administrator's; leaving them alone", "path", a.CRIUConfig, "lacks", state.Message)
	}
	if string(state.Owner) != before.CRIUConfig || state.Message != before.CRIUConfigMessage {
		a.profile.Update(func(f *profile.Facts) { f.CRIUConfig, f.CRIUConfigMessage = string(state.Owner), state.Message })
	}
	return err == nil
}

func (a *agent) probeKubelet(ctx context.Context) bool {
	failure := ""
	if err := a.kubelet.Probe(ctx); err != nil {
		failure = err.Error()
	}
	if ctx.Err() != nil {
		return false
	}
	if failure != a.profile.Facts().KubeletFailure {
		log.FromContext(ctx).WithName("kubelet").Info("Whether the kubelet takes checkpoint requests changed", "failure", failure)
		a.profile.Update(func(f *profile.Facts) { f.KubeletFailure = failure })
	}
	return failure == ""
}
