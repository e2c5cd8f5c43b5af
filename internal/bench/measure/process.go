package measure

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// A Process is one that runs on this machine, by its number. 0 is one that we cannot look at: its Usage is zero, and no error.
type Process int

// Usage is what a process has used so far, all of its threads together.
type Usage struct {
	CPU time.Duration // user and system
	RSS int64         // bytes
}

// Self is the present process: the generator.
func Self() Process { return Process(os.Getpid()) }

// tick is the unit of CPU time in /proc: USER_HZ is 100 on every Linux architecture that Go knows.
const tick = 10 * time.Millisecond

// Usage reads /proc/PID/stat (proc_pid_stat(5)).
func (p Process) Usage() (Usage, error) {
	if p == 0 {
		return Usage{}, nil
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(int(p)) + "/stat")
	if err != nil {
		return Usage{}, fmt.Errorf("usage of process %d: %w", p, err)
	}
	// The second field is the program's name in parentheses, in which anything may stand.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	const state = 3 // number of the first field after it
	var numbers [3]int64
	for i, n := range []int{14, 15, 24} { // utime, stime, rss in pages
		if n-state >= len(fields) {
			return Usage{}, fmt.Errorf("usage of process %d: field %d is missing", p, n)
		}
		if numbers[i], err = strconv.ParseInt(string(fields[n-state]), 10, 64); err != nil {
			return Usage{}, fmt.Errorf("usage of process %d: %w", p, err)
		}
	}
	return Usage{CPU: time.Duration(numbers[0]+numbers[1]) * tick, RSS: numbers[2] * int64(os.Getpagesize())}, nil
}

// CPUBetween is the CPU time from one Usage to a later one, per item, in microseconds; 0 if there were none.
func CPUBetween(before, after Usage, items int64) float64 {
	if items == 0 {
		return 0
	}
	return float64((after.CPU - before.CPU).Microseconds()) / float64(items)
}

// MiB of bytes.
func MiB(bytes int64) float64 { return float64(bytes) / (1 << 20) }
