// SPDX-License-Identifier: Apache-2.0

package fence_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/pkg/agent/fence"
)

// FuzzLedger: whatever is in the file, the ledger opens; what it took it has again the next time, and what it did not take is put aside.
func FuzzLedger(f *testing.F) {
	f.Add([]byte(`[{"checkpoint":{"Namespace":"ns","Name":"a"},"checkpointUID":"1","pod":"web","podUID":"2","containers":[{"name":"c","id":"3"}],"since":"2026-01-02T03:04:05Z"}]`))
	f.Add([]byte("[]"))
	f.Add([]byte("null"))
	f.Add([]byte(`[{"since":"9999-12-31T23:59:59-23:59"},{"thawed":true}]`))
	f.Add([]byte("{"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(dir, "frozen.json")
		_ = os.Remove(path + ".corrupt")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := fence.OpenLedger(path)
		if err != nil {
			t.Fatal(err)
		}
		all := l.All()
		if _, err := os.Stat(path + ".corrupt"); err == nil && len(all) > 0 {
			t.Errorf("put aside, and yet %+v", all)
		}
		extra := fence.Entry{Pod: "extra", PodUID: "extra-pod", CheckpointUID: "extra"}
		extra.Checkpoint.Namespace, extra.Checkpoint.Name = "fuzz", "extra"
		if err := l.Put(extra); err != nil {
			return
		}
		again, err := fence.OpenLedger(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(l.All(), again.All()); diff != "" {
			t.Errorf("opened again (-want +got):\n%s", diff)
		}
		if err := again.Drop(extra.Checkpoint); err != nil {
			t.Error(err)
		}
	})
}
