// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// clockFunction is what every program asks the time by, as the kernel maps it into each process (vdso(7)).
const clockFunction = "__vdso_clock_gettime"

// errBusy says that a thread of the process stands in what was to be replaced.
var errBusy = errors.New("a thread is reading the clock")

// skewed is a function that asks the kernel for the time, and adds seconds to what the wall's clock shows. Every other clock is as it was:
// so it is where an administrator sets a machine's clock.
//
//	mov  eax, 228            clock_gettime
//	syscall
//	test edi, edi            CLOCK_REALTIME?
//	jne  end
//	add  qword [rsi], seconds
//	end: ret
func skewed(seconds int32) []byte {
	code := []byte{0xb8, 228, 0, 0, 0, 0x0f, 0x05, 0x85, 0xff, 0x75, 0x07, 0x48, 0x81, 0x06}
	return append(binary.LittleEndian.AppendUint32(code, uint32(seconds)), 0xc3)
}

// clockOf finds the function in the memory of the process whose /proc directory is dir: where it begins, and what range its page has.
func clockOf(dir string) (at, begin, end uint64, err error) {
	if runtime.GOARCH != "amd64" {
		return 0, 0, 0, fmt.Errorf("changing the clock of a process: not written for %s", runtime.GOARCH)
	}
	maps, err := os.ReadFile(filepath.Join(dir, "maps"))
	if err != nil {
		return 0, 0, 0, fmt.Errorf("reading the memory map of a process: %w", err)
	}
	if begin, end, err = vdsoRange(string(maps)); err != nil {
		return 0, 0, 0, err
	}
	image := make([]byte, end-begin)
	if err := readMemory(dir, begin, image); err != nil {
		return 0, 0, 0, err
	}
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, 0, 0, fmt.Errorf("reading the vDSO: %w", err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return 0, 0, 0, fmt.Errorf("reading the vDSO: %w", err)
	}
	for _, s := range symbols {
		if s.Name == clockFunction && s.Size >= uint64(len(skewed(0))) {
			return begin + s.Value, begin, end, nil
		}
	}
	return 0, 0, 0, fmt.Errorf("the vDSO has no %s to replace", clockFunction)
}

// vdsoRange reads the lines of proc_pid_maps(5).
func vdsoRange(maps string) (begin, end uint64, err error) {
	for line := range strings.Lines(maps) {
		if !strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			continue
		}
		from, rest, _ := strings.Cut(line, "-")
		to, _, _ := strings.Cut(rest, " ")
		begin, err = strconv.ParseUint(from, 16, 64)
		if err == nil {
			end, err = strconv.ParseUint(to, 16, 64)
		}
		if err != nil {
			return 0, 0, fmt.Errorf("parsing %q: %w", line, err)
		}
		return begin, end, nil
	}
	return 0, 0, errors.New("the process has no vDSO")
}

func readMemory(dir string, at uint64, into []byte) error {
	memory, err := os.Open(filepath.Join(dir, "mem"))
	if err != nil {
		return fmt.Errorf("opening the memory of a process: %w", err)
	}
	defer memory.Close()
	if _, err := memory.ReadAt(into, int64(at)); err != nil {
		return fmt.Errorf("reading the memory of a process: %w", err)
	}
	return nil
}

// writeClock replaces the begin of the function. The process has to be stopped. It gets pages of its own: no other process is touched.
func writeClock(dir string, code []byte) error {
	at, begin, end, err := clockOf(dir)
	if err != nil {
		return err
	}
	if err := away(dir, begin, end); err != nil {
		return err
	}
	memory, err := os.OpenFile(filepath.Join(dir, "mem"), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("opening the memory of a process: %w", err)
	}
	defer memory.Close()
	if _, err := memory.WriteAt(code, int64(at)); err != nil {
		return fmt.Errorf("writing the memory of a process: %w", err)
	}
	return nil
}

// away fails with errBusy while a thread stands within the range, by proc_pid_syscall(5).
func away(dir string, begin, end uint64) error {
	threads, err := filepath.Glob(filepath.Join(dir, "task", "*", "syscall"))
	if err != nil {
		return fmt.Errorf("listing threads: %w", err)
	}
	for _, path := range threads {
		line, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading where a thread stands: %w", err)
		}
		fields := strings.Fields(string(line))
		if len(fields) < 3 {
			return errBusy // "running": it has not stopped yet
		}
		at, err := strconv.ParseUint(fields[len(fields)-1], 0, 64)
		if err != nil {
			return fmt.Errorf("parsing where a thread stands: %w", err)
		}
		if begin <= at && at < end {
			return errBusy
		}
	}
	return nil
}
