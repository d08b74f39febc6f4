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
	"google.golang.org/protobuf/proto"
)

// Metadata is what the small files of a checkpoint archive tell. They came through a hostile archive: nothing is decided by them but whether
// the archive is whole, and whose it is.
type Metadata struct {
	// ContainerID is the container that config.dump names.
	ContainerID string
	// Dump is stats-dump: what CRIU measured; nil where it is missing or unreadable.
	Dump *DumpStats
	// Entries is the number of files and directories that were let through.
	Entries int
	// Bytes is the size of all files that were let through, as they came.
	Bytes int64

	config, spec    bool
	checkpointFiles int
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
	// parse takes from the file what Metadata has of it.
	parse func(m *Metadata, content []byte) error
	// rewrite is what stands for the file in the copy, which nothing of its content gets into; nil: the file stays as it is.
	rewrite func(id Identity) ([]byte, error)
}

// parts are the files that somebody reads. Their structure is only looked at as far as it is used: large specifications of nothing would
// else take much more memory than they have bytes.
var parts = map[string]part{
	criu.ConfigDumpFile: {1 << 20, (*Metadata).parseConfig, Identity.config},
	criu.SpecDumpFile:   {8 << 20, (*Metadata).parseSpec, Identity.spec},
	criu.StatusDumpFile: {1 << 20, (*Metadata).parseStatus, Identity.status},
	stats.StatsDump: {1 << 20, func(m *Metadata, content []byte) error {
		// Statistics are nice to have: a checkpoint is good without them.
		m.Dump, _ = ParseDumpStats(content)
		return nil
	}, nil},
}

// kept are the files at the root of an archive that a copy has as well, beside what is in the directory of CRIU's images. Other runtimes
// know more, by which an archive could ask for mounts (bind.mounts), deletions (deleted.files), networks or volumes.
var kept = map[string]struct{}{
	criu.ConfigDumpFile: {}, criu.SpecDumpFile: {}, criu.StatusDumpFile: {}, stats.StatsDump: {},
	criu.RootFsDiffTar: {}, criu.DumpLogFile: {}, containerLog: {}, criu.CheckpointDirectory: {},
}

// containerLog is what the container has written so far, which containerd begins the log of the restored one with.
const containerLog = "container.log"

func isKept(e Entry) bool {
	if _, known := kept[e.Name]; known {
		return e.Dir == (e.Name == criu.CheckpointDirectory)
	}
	return isBelow(e.Name, criu.CheckpointDirectory)
}

func (m *Metadata) parseConfig(content []byte) error {
	var config *struct {
		ID string `json:"id"`
	}
	if err := decode(content, &config); err != nil || config == nil {
		return err
	}
	m.config, m.ContainerID = true, config.ID
	return nil
}

func (m *Metadata) parseSpec(content []byte) error {
	var spec *struct {
		Version string `json:"ociVersion"`
	}
	err := decode(content, &spec)
	m.spec = spec != nil
	return err
}

func (m *Metadata) parseStatus(content []byte) error {
	var status struct {
		ID string `json:"id"`
	}
	return decode(content, &status)
}

// decode fails without the parser's own words, which may quote the content.
func decode(content []byte, into any) error {
	err := json.Unmarshal(content, into)
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &syntax):
		return fmt.Errorf("no JSON from byte %d on", syntax.Offset)
	default:
		return errors.New("not of the form that it should have")
	}
}

func (m *Metadata) complete(id Identity) error {
	switch {
	case !m.config:
		return fmt.Errorf("reading archive: no %q: %w", criu.ConfigDumpFile, ErrIncomplete)
	case !m.spec:
		return fmt.Errorf("reading archive: no %q: %w", criu.SpecDumpFile, ErrIncomplete)
	case m.checkpointFiles == 0:
		return fmt.Errorf("reading archive: nothing in %q: %w", criu.CheckpointDirectory, ErrIncomplete)
	case id.ID != "" && m.ContainerID != id.ID:
		return fmt.Errorf("reading archive of container %q: %w", id.ID, ErrForeign)
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
