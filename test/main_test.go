//go:build linux

// Package test proves the program from outside, as its users see it: real browsers, real NATs, the binary that an operator starts.
//
// A test that mostly waits, or has a browser and does not judge how long something takes, says t.Parallel. The others come before all of those
// and one after another: a gap in a call, or a rate, is measured on a machine that does nothing else.
package test

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/madang-rtc/madang/internal/lab"
)

// scratch is a folder for this run; it is gone afterwards.
var scratch string

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(playRole(role)) // this process is a part of another one's test
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "madang-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(scratch)
	return m.Run()
}

// program builds the program once per run, when the first test needs it.
var program = sync.OnceValues(func() (string, error) { return lab.Build(buildContext(), scratch) })
