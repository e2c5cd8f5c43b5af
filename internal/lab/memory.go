//go:build linux

package lab

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// MemoryBytes is what the process and all of its group use: the sum of proportional set sizes (PSS, proc_pid_smaps_rollup(5)), so that
// pages that they share count once.
func (p *Process) MemoryBytes() (int64, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, name := range stats {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		// The name, in brackets, may have spaces: pid (name) state ppid pgrp …
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 3 || fields[2] != strconv.Itoa(p.Cmd.Process.Pid) {
			continue
		}
		kib, err := pss(filepath.Join(filepath.Dir(name), "smaps_rollup"))
		if err != nil {
			continue // likewise
		}
		sum += kib << 10
	}
	if sum == 0 {
		return 0, fmt.Errorf("process group %d has no processes", p.Cmd.Process.Pid)
	}
	return sum, nil
}

func pss(name string) (kib int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "Pss:"); ok {
			return strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no Pss", name)
}
