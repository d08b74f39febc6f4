// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	criu "github.com/checkpoint-restore/checkpointctl/lib"
	"github.com/checkpoint-restore/go-criu/v7/stats"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
)

// Metadata is what the small files of a checkpoint archive tell. It was written on the node, but it came through a hostile
// archive: none of it may be trusted further than the pod that it came from.
type Metadata struct {
	// Config is config.dump: the container's identity and its base image.
	Config *criu.ContainerConfig
	// Spec is spec.dump: the container's OCI runtime specification. It holds the environment: never log it.
	Spec *specs.Spec
	// Status is status.dump: the container's status in the CRI; nil where the runtime writes none (CRI-O).
	Status *Status
	// Dump is stats-dump: what CRIU measured; nil where it is missing or unreadable.
	Dump *DumpStats
	// Entries is the number of files and directories.
	Entries int
	// Bytes is the size of all files.
	Bytes int64

	checkpointFiles int
}

// Status is the part of the CRI's ContainerStatus that Cryopod reads.
type Status struct {
	// ID is the container's ID.
	ID string `json:"id"`
	// Image is the image that the container was created from.
	Image struct {
		// Image is the image's ID or name as the runtime knows it.
		Image string `json:"image"`
		// UserSpecifiedImage is the name in the pod's specification.
		UserSpecifiedImage string `json:"user_specified_image"`
	} `json:"image"`
	// ImageRef is the image by digest.
	ImageRef string `json:"image_ref"`
}

// DumpStats is what CRIU measured while it dumped.
type DumpStats struct {
	// Freezing is how long it took to stop the processes.
	Freezing time.Duration
	// Frozen is how long the processes stood still.
	Frozen time.Duration
	// MemDump is how long it took to take the memory, MemWrite how long to write it.
	MemDump, MemWrite time.Duration
	// PagesWritten is the number of memory pages written.
	PagesWritten uint64
}

// part is a metadata file at the root of an archive.
type part struct {
	maxBytes int64
	parse    func(m *Metadata, content []byte) error
}

var parts = map[string]part{
	criu.ConfigDumpFile: {1 << 20, func(m *Metadata, content []byte) error { return json.Unmarshal(content, &m.Config) }},
	criu.SpecDumpFile:   {8 << 20, func(m *Metadata, content []byte) error { return json.Unmarshal(content, &m.Spec) }},
	criu.StatusDumpFile: {1 << 20, func(m *Metadata, content []byte) error { return json.Unmarshal(content, &m.Status) }},
	stats.StatsDump: {1 << 20, func(m *Metadata, content []byte) error {
		// Statistics are nice to have: a checkpoint is good without them.
		m.Dump, _ = ParseDumpStats(content)
		return nil
	}},
}

func (m *Metadata) complete() error {
	switch {
	case m.Config == nil:
		return fmt.Errorf("reading archive: no %q: %w", criu.ConfigDumpFile, ErrIncomplete)
	case m.Spec == nil:
		return fmt.Errorf("reading archive: no %q: %w", criu.SpecDumpFile, ErrIncomplete)
	case m.checkpointFiles == 0:
		return fmt.Errorf("reading archive: nothing in %q: %w", criu.CheckpointDirectory, ErrIncomplete)
	}
	return nil
}

// ParseDumpStats reads CRIU's file stats-dump: two magic numbers, a length and a protobuf message (CRIU images/stats.proto).
func ParseDumpStats(content []byte) (*DumpStats, error) {
	if len(content) < stats.PayloadOffset {
		return nil, errors.New("parsing CRIU statistics: too short")
	}
	field := func(at int) uint32 { return binary.LittleEndian.Uint32(content[at:]) }
	if field(stats.PrimaryMagicOffset) != stats.ImgServiceMagic || field(stats.SecondaryMagicOffset) != stats.StatsMagic {
		return nil, errors.New("parsing CRIU statistics: unknown magic number")
	}
	payload := content[stats.PayloadOffset:]
	size := field(stats.SizeOffset)
	if uint64(size) > uint64(len(payload)) {
		return nil, errors.New("parsing CRIU statistics: cut off")
	}
	var entry stats.StatsEntry
	if err := proto.Unmarshal(payload[:size], &entry); err != nil {
		return nil, fmt.Errorf("parsing CRIU statistics: %w", err)
	}
	dump := entry.GetDump()
	if dump == nil {
		return nil, errors.New("parsing CRIU statistics: not of a dump")
	}
	micros := func(n uint32) time.Duration { return time.Duration(n) * time.Microsecond }
	return &DumpStats{
		Freezing:     micros(dump.GetFreezingTime()),
		Frozen:       micros(dump.GetFrozenTime()),
		MemDump:      micros(dump.GetMemdumpTime()),
		MemWrite:     micros(dump.GetMemwriteTime()),
		PagesWritten: dump.GetPagesWritten(),
	}, nil
}

func isBelow(name, dir string) bool { return strings.HasPrefix(name, dir+"/") }
