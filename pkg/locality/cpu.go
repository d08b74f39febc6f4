// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"unique"
)

// namedFeatures is how many missing CPU features a refusal names.
const namedFeatures = 3

// comparedByCRIU are the features of an x86 CPU that CRIU compares when it is told to (--cpu-cap=fpu,ins, its documented default), as /proc/cpuinfo
// names them: x86_ins_capability_mask and cpu_validate_features in CRIU's criu/arch/x86/cpu.c, as of 4.2.1. fma and what came after AVX-512 are not
// among them. osxsave, which it compares too, has no name there and goes with xsave.
var comparedByCRIU = setOf(`
	fpu tsc cx8 sep cmov clflush mmx fxsr sse sse2
	syscall mmxext rdtscp 3dnowext 3dnow
	rep_good nopl
	pni pclmulqdq monitor ssse3 cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand
	abm sse4a misalignsse 3dnowprefetch xop fma4 tbm
	fsgsbase bmi1 hle avx2 bmi2 erms rtm mpx avx512f avx512dq rdseed adx clflushopt avx512pf avx512er avx512cd sha_ni avx512bw avx512vl
	xsaveopt xsavec xgetbv1
	avx512vbmi avx512_vbmi2 gfni vaes vpclmulqdq avx512_vnni avx512_bitalg tme avx512_vpopcntdq rdpid
	clzero
	avx512_4vnniw avx512_4fmaps`)

func setOf(words string) map[string]bool {
	set := map[string]bool{}
	for word := range strings.FieldsSeq(words) {
		set[word] = true
	}
	return set
}

// features are those of a CPU, sorted and with a space between them; the zero value is that they are not known. A cluster has few kinds of CPU: each
// is kept once, and two of a kind are told apart from others at a glance.
type features unique.Handle[string]

func featuresOf(names []string) features {
	if len(names) == 0 {
		return features{}
	}
	return features(unique.Make(strings.Join(slices.Sorted(slices.Values(names)), " ")))
}

func (f features) names() []string {
	if f == (features{}) {
		return nil
	}
	return strings.Fields(unique.Handle[string](f).Value())
}

// lacks returns which of the wanted CPU features a node has not that has these, as far as the policy takes them into account: those that programs use
// by instructions first. A node that tells none lacks none.
func lacks(want demand, have features, by CPUFeaturePolicy) []string {
	if by == CPUFeaturesIgnore || have == (features{}) {
		return nil
	}
	if by == CPUFeaturesCRIU && want.arch == "arm64" {
		// There CRIU compares nothing (criu/arch/aarch64/cpu.c).
		return nil
	}
	there := have.names()
	var lacking, others []string
	for _, f := range want.cpu.names() {
		if _, found := slices.BinarySearch(there, f); found {
			continue
		}
		if comparedByCRIU[f] {
			lacking = append(lacking, f)
		} else {
			others = append(others, f)
		}
	}
	if by == CPUFeaturesCRIU {
		return lacking
	}
	return append(lacking, others...)
}

// comparisons remember the refusals, or that there is none, by two kinds of CPU: the lists are long, the kinds few, and the nodes and pods many. All are by
// one policy.
type comparisons struct{ known sync.Map }

// comparison is one of a node's CPU with what a checkpoint may use.
type comparison struct {
	arch       string
	want, have features
}

func (c *comparisons) refusal(want *demand, have features, by CPUFeaturePolicy) *refusal {
	key := comparison{want.arch, want.cpu, have}
	known, found := c.known.Load(key)
	if !found {
		var r *refusal
		if lacking := lacks(*want, have, by); len(lacking) > 0 {
			r = &refusal{refusedCPU, fmt.Sprintf("node(s) whose CPU lacks %s that the checkpoint may use", enumerate(lacking))}
		}
		known, _ = c.known.LoadOrStore(key, r)
	}
	r, _ := known.(*refusal)
	return r
}

func enumerate(features []string) string {
	if len(features) > namedFeatures {
		return fmt.Sprintf("%s and %d more", strings.Join(features[:namedFeatures], ", "), len(features)-namedFeatures)
	}
	return strings.Join(features, ", ")
}
